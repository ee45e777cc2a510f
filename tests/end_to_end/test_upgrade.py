"""The upgrade gate from the shell: every exit code, with what it says."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from harness.devices import emulated_kernels
from harness.records.expectation import ExpectedRow
from harness.system.files import ROOT
from harness.system.status import Status
from harness.upgrade import expected_file
from tests.makers.cases import entry, plan

PASSING = ExpectedRow(status=Status.PASS, budget_ratio=1.0, top1="6/6")


KNOWN = ExpectedRow(status=Status.FAIL_NAN, reason="Kernel X.", link="https://tracker/1")


def case_id(name: str) -> str:
    return f"{name}-synthetic-float32-b8-strict"


@pytest.fixture
def rows(tmp_path):
    """Write expected rows by model name; gives the option that has them read."""

    def write(device: str, **rows: ExpectedRow) -> str:
        path = expected_file.path_of(tmp_path / "expected", device, "strict")
        named = {case_id(name): row for name, row in rows.items()}
        kernels = emulated_kernels.DEFAULT if device == "npu-emulated" else None
        expected_file.write(path, device, "strict", named, kernels=kernels)
        return f"--expected={tmp_path / 'expected'}"

    return write


def outcomes(done) -> dict[str, str]:
    return {name: case.expected.outcome.value for name, case in done.cases.items()}


def test_an_unchanged_stack_is_0_and_one_planted_fault_is_1(harness_run, copy_of, rows, tmp_path):
    expected = rows("npu-emulated", a=PASSING, b=PASSING)
    cases = entry(copy_of("a")) + entry(copy_of("b"))
    options = ("--device", "npu-emulated", expected)
    done = harness_run(*options, cases=entry(tmp_path / "a"))
    assert done.code == 0, done.text
    assert outcomes(done) == {"a": "as expected"}

    fault = plan(tmp_path, kind="scale_weight", operator="Convolution", magnitude=1.1)
    done = harness_run(*options, fault, "-n", "2", cases=cases)
    assert done.code == 1, done.text
    assert outcomes(done) == {"a": "worse", "b": "worse"}
    ratio = done.cases["a"].budget_ratio
    assert ratio > 10
    said = f"{case_id('a')} is worse than expected: status pass -> fail_accuracy, budget ratio "
    assert f"{said}1 -> {ratio:.3g}" in done.text
    assert "Culprit: aten::convolution.default in " in done.text
    assert f"-k 'test_accuracy[{case_id('a')}]' --update-expected --expected-reason" in done.text
    assert done.run.end.exit_code == 1
    history = done.results / "history" / "npu-emulated.jsonl"
    assert len(history.read_text().splitlines()) == 1  # planted faults are no history


def test_improved_and_new_results_are_11_and_an_update_never_passes(
    harness_run, copy_of, rows, tmp_path
):
    rows("cpu", same=PASSING, better=KNOWN)
    expected = rows("cpu")
    cases = "".join(entry(copy_of(name)) for name in ("same", "better", "new"))
    options = ("--device", "cpu", expected)
    done = harness_run(*options, "-n", "2", cases=cases)
    assert done.code == 11, done.text
    assert outcomes(done) == {"same": "as expected", "better": "improved", "new": "new"}
    assert "status fail_nan -> pass" in done.text

    done = harness_run(*options, "--update-expected", cases=cases)
    assert done.code == 11, done.text
    assert re.search(r"1 passed, 2 skipped", done.text)
    path = tmp_path / "expected" / "cpu" / "strict.toml"
    written = expected_file.read(path, "cpu", "strict")
    assert [row.status for row in written.values()] == [Status.PASS] * 3


def test_a_known_failure_is_0_as_long_as_it_is_that_failure(harness_run, copy_of, rows):
    broken = copy_of("broken")
    (broken / "config.json").write_text("{")
    row = ExpectedRow(status=Status.FAIL_LOAD, reason="No config.", link="https://tracker/2")
    done = harness_run("--device", "cpu", rows("cpu", broken=row), cases=entry(broken))
    assert done.code == 0, done.text
    assert "1 xfailed" in done.text and "https://tracker/2" in done.text


def test_a_typo_in_an_expected_file_is_4_with_line_and_column(harness_run, copy_of, rows, tmp_path):
    expected = rows("cpu", a=PASSING)
    path = tmp_path / "expected" / "cpu" / "strict.toml"
    path.write_text(path.read_text().replace("budget_ratio", "budget_rato"))
    text = path.read_text().splitlines()
    cases = entry(copy_of("a"))
    for workers in ((), ("-n", "2")):
        done = harness_run("--device", "cpu", expected, *workers, cases=cases)
        assert done.code == 4
        column = text[-1].index("budget_rato") + 1
        assert f"{path}, line {len(text)}, column {column}: " in done.text
        assert "did you mean 'budget_ratio'?" in done.text
        assert not done.results.exists()


def test_a_device_error_is_10_and_cases_left_out_are_12(harness_run, copy_of, rows, tmp_path):
    expected = rows("npu-emulated", a=PASSING, b=PASSING)
    fault = plan(tmp_path, kind="error_code", operator="Convolution", first=2)
    options = ("--device", "npu-emulated", expected, fault)
    done = harness_run(*options, cases=entry(copy_of("a")))
    assert done.code == 10, done.text
    assert outcomes(done) == {"a": "not judged"}
    assert "trouble of the infrastructure is never written as expected" in done.text
    done = harness_run(*options, "-x", cases=entry(tmp_path / "a") + entry(copy_of("b")))
    assert done.code == 12, done.text


def test_a_killed_run_is_12(copy_of, tmp_path, cache_dir):
    (tmp_path / "cases.toml").write_text(entry(copy_of("a")) + entry(copy_of("b")))
    results = tmp_path / "results" / "results.jsonl"
    environment = {**os.environ, "HARNESS_CACHE_DIR": str(cache_dir)}
    run = subprocess.Popen(
        [sys.executable, "-m", "harness", "run", "--device", "cpu", "--results",
         str(results.parent), "--case-file", str(tmp_path / "cases.toml")],
        cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not (results.exists() and '"type":"case"' in results.read_text()):
            assert time.monotonic() < deadline and run.poll() is None
            time.sleep(0.02)
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    report = subprocess.run(
        [sys.executable, "-m", "harness", "report", str(results)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert report.returncode == 12
    assert "The run was cut short" in report.stdout
    lines = [json.loads(line)["type"] for line in results.read_text().splitlines()]
    assert "end" not in lines and lines.count("case") == 1


def test_a_run_is_compared_with_the_one_before_it(harness_run, copy_of, tmp_path):
    page = tmp_path / "r.html"
    cases = entry(copy_of("a"))
    assert harness_run("--device", "cpu", cases=cases).code == 0
    before = str(tmp_path / "results")  # this very run moves it aside
    done = harness_run(
        "--device", "cpu", "--compare", before, "--compare-fail", "budget_ratio>=1x",
        f"--html={page}", "--self-contained-html", cases=cases,
    )  # fmt: skip
    assert done.code == 1, done.text
    for shown in (done.text, page.read_text().replace("&gt;", ">")):
        assert "Compared 1 cases: 1 identical; 1 conditions met" in shown
        assert f"{case_id('a')}: budget_ratio>=1x is met" in shown
        assert "Trend over versions" in shown and "(2 runs)" in shown
    (old,) = (tmp_path / "results" / "previous").iterdir()
    shell = subprocess.run(
        [sys.executable, "-m", "harness", "compare", str(old), before, "--fail-on", "mae>1x"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert shell.returncode == 0, shell.stdout + shell.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--compare", "none.jsonl"), "No results file"),
        (("--compare-fail", "speed<1"), "--compare-fail belongs to --compare"),
        (("--expected-link", "x"), "--expected-link belongs to --update-expected"),
    ],
)
def test_options_that_would_do_nothing_are_4(harness_run, options, said):
    done = harness_run("--device", "cpu", *options)
    assert done.code == 4 and said in done.text
    assert not done.results.exists()
