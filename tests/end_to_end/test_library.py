"""The examples of docs/library.md do what it says."""

import os
import re
import subprocess
import sys

import pytest

from harness.records import results_file
from harness.system.files import ROOT

EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "library.md").read_text(), re.S)


@pytest.fixture
def run(tmp_path, cache_dir):
    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, text=True, capture_output=True, check=False,
            timeout=600,
            env={**os.environ, "HARNESS_CACHE_DIR": str(cache_dir), "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_there_are_four():
    assert len(EXAMPLES) == 4


def test_the_test(run, tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p harness.entry.npu_accuracy\n")
    (tmp_path / "test_towers.py").write_text(EXAMPLES[0])
    out = run("-m", "pytest", "--device", "npu-emulated", "--html=page.html")
    assert "2 passed" in out and "EMULATED" in out
    ids = [case.case_id for case in results_file.read_run(tmp_path / "reports").cases]
    assert ids == [
        "test_towers-given-float32-b6-strict",
        "test_float16-given-n4-float16-b4-default",
    ]
    assert ids[0] in (tmp_path / "page.html").read_text()


def test_the_notebook(run, tmp_path):
    (tmp_path / "cell.py").write_text(EXAMPLES[1])
    out = run("cell.py")
    assert "attention-given-n4-float32-b1-strict [EMULATED]" in out
    assert "draws random numbers (aten::rand_like" in out


def test_the_fault(run, tmp_path):
    (tmp_path / "fault.py").write_text(EXAMPLES[2])
    script, case = run("fault.py").splitlines()
    assert (tmp_path / script).is_file() and script.endswith(".py")
    assert case == "Sequential-given-n4-float32-b4-default fail_accuracy"


def test_the_two_sides(run, tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p harness.entry.npu_accuracy\n")
    (tmp_path / "test_sides.py").write_text(EXAMPLES[3])
    options = EXAMPLES[3].splitlines()[0].partition("pytest ")[2].split()
    assert "1 passed" in run("-m", "pytest", *options)
    (case,) = results_file.read_run(tmp_path / "reports").cases
    assert case.case_id == "test_resnet-synthetic-float32-b8-default" and case.emulated
