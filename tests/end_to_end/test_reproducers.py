"""From the terminal of a run to its reproducer: one line to copy, and nothing to add by hand."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.system.files import ROOT

RUN = ("--device", "npu-emulated", "--model", "test_resnet", "--numerics", "strict",
       "--operator-share", "0")  # fmt: skip


def emulate(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "harness", "emulate", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def reproducers(text: str) -> list[str]:
    return re.findall(r"^Reproducer: (.+)$", text, re.MULTILINE)


@pytest.mark.slow
def test_a_reproducer_names_the_kernels_of_its_run(harness_run):
    done = harness_run(*RUN, "--emulated-kernels", "broken/conv_half_result")
    first, *_ = reproducers(done.text)
    assert Path(first).is_absolute() and Path(first).is_file()
    assert f"Run: python -m harness emulate {Path(first).name};" in Path(first).read_text()
    assert "Next: run the first of them on the card" in done.text
    shown = emulate(first)
    assert shown.returncode == 1 and "The difference shows." in shown.stdout, shown.stderr
    assert emulate("--emulated-kernels", "cann", first).returncode == 0
    (case,) = done.run.cases
    convolutions = sum("convolution" in row.operator for row in case.localization.rows)
    assert f"{convolutions} of {convolutions} aten::convolution.default, 0 of " in done.text
    # What was recorded does not depend on where it lies.
    assert not any(Path(name).is_absolute() for name in case.localization.reproducers)
    report = subprocess.run(
        [sys.executable, "-m", "harness", "report", str(done.results)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert first in reproducers(report.stdout)


@pytest.mark.slow
def test_a_reproducer_names_its_module_to_the_fault_plan(harness_run, tmp_path):
    path = tmp_path / "plan.json"
    fault = {"kind": "scale_output", "operator": "Convolution", "magnitude": 1.01}
    path.write_text(json.dumps({"faults": [{**fault, "module": "layer2.0.conv2"}]}))
    done = harness_run(*RUN, f"--fault-plan={path}")
    (script,) = reproducers(done.text)
    assert "layer2_0_conv2" in script
    assert emulate("--fault-plan", str(path), script).returncode == 1
    assert emulate(script).returncode == 0
    path.write_text(json.dumps({"faults": [{**fault, "module": "layer3"}]}))
    assert emulate("--fault-plan", str(path), script).returncode == 0


def test_a_script_that_is_no_file_is_a_sentence(tmp_path):
    done = emulate(str(tmp_path))
    assert done.returncode == 4 and "No script" in done.stderr and "Traceback" not in done.stderr
