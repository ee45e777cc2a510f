"""Runs beside other plugins of pytest, and without pytest's own.

The stand-ins in `tests/makers/others` do what one kind of plugin does, and always run.
"""

import importlib.metadata
import json
import os
import subprocess
import sys

import pytest

from harness.system.files import ROOT
from harness.system.status import Status
from tests.makers.cases import entry

CASES = "\n".join(f'[[case]]\narchitecture = "resnet{n}"\nnumerics = ["strict"]' for n in (18, 34))
INSTANT = ("-p", "tests.makers.instant", "--device", "cpu")
# By downloads, beside pytest-xdist, pytest-metadata and pytest-html, which are ours.
MOST_USED = (
    "pytest-cov", "pytest-asyncio", "pytest-json-ctrf", "pytest-mock", "pytest-timeout",
    "pytest-rerunfailures", "pytest-env", "pytest-django", "pytest-split", "pytest-benchmark",
    "pytest-json-report", "pytest-repeat",
)  # fmt: skip


def other(name: str) -> tuple[str, str]:
    return "-p", f"tests.makers.others.{name}"


def installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def statuses(done) -> dict[str, Status]:
    return {name: case.status for name, case in done.cases.items()}


@pytest.mark.parametrize("processes", [(), ("-n", "2")])
def test_tests_that_are_repeated_are_tries_of_one_case(harness_run, processes):
    done = harness_run(*INSTANT, *other("repeats"), *processes, cases=CASES)
    assert done.code == 0, done.text
    assert [case.attempts for case in done.run.cases] == [[Status.PASS] * 3] * 2
    assert "2 of 2 cases; all passed" in done.text and "6 passed" in done.text


def test_tests_in_another_order_have_the_same_records(harness_run):
    done = harness_run(*INSTANT, *other("reorders"), cases=CASES)
    assert done.code == 0 and done.run.missing == [], done.text
    assert [case.case.model.name for case in done.run.cases] == ["resnet34", "resnet18"]


def test_tests_that_are_left_out_are_not_missing(harness_run):
    done = harness_run(*INSTANT, *other("leaves_out"), cases=CASES)
    assert done.code == 0 and done.run.missing == [], done.text
    assert list(done.cases) == ["resnet18"] and "1 deselected" in done.text


def test_a_time_limit_of_another_plugin_costs_its_case(harness_run):
    late = json.dumps({"resnet18": {"seconds": 60}})
    done = harness_run(*INSTANT, *other("limits"), cases=CASES, env={"INSTANT": late})
    assert statuses(done) == {"resnet18": Status.ERROR_TIMEOUT, "resnet34": Status.PASS}
    assert done.code == 10 and done.run.missing == [], done.text
    reason = done.cases["resnet18"].reason
    assert "Another pytest plugin ended this case's test: Timeout (>1.0s)" in reason


def test_another_terminal_reporter_shows_the_tables(harness_run):
    done = harness_run(*INSTANT, *other("reports"), cases=CASES)
    assert done.code == 0, done.text
    assert "Results of another reporter" in done.text and "2 cases: 2 pass" in done.text


def test_forked_tests_and_forbidden_sockets_leave_the_processes_of_a_case(harness_run, copy_of):
    done = harness_run(
        "--device", "cpu", *other("forks"), *other("forbids_sockets"),
        cases=entry(copy_of("one")) + entry(copy_of("two")),
    )  # fmt: skip
    assert done.code == 0, done.text
    assert statuses(done) == {"one": Status.PASS, "two": Status.PASS}
    assert all(case.candidate is not None for case in done.run.cases)


@pytest.mark.parametrize(
    "without",
    [("terminal",), ("capture",), ("junitxml", "html", "xdist", "metadata", "logging", "warnings")],
)
def test_without_plugins_of_pytest_and_ours(harness_run, without):
    switches = [switch for name in without for switch in ("-p", f"no:{name}")]
    done = harness_run(*INSTANT, *switches, cases=CASES)
    assert done.code == 0 and "Traceback" not in done.text, done.text
    assert statuses(done) == {"resnet18": Status.PASS, "resnet34": Status.PASS}
    assert done.run.end is not None
    assert ("2 cases: 2 pass" in done.text) is (without != ("terminal",))


def test_options_that_others_keep_under_our_names_set_none_of_ours(harness_run):
    done = harness_run(*INSTANT, *other("kept_alike"), "--browser-device=x", cases=CASES)
    assert done.code == 0, done.text
    assert done.run.run.device == "cpu" and len(done.run.cases) == 2


TIMEOUT = """
def pytest_addoption(parser):
    parser.addoption("--timeout", type=float)
    parser.addoption("--timeout-method")
    parser.addini("timeout", "")
    parser.addini("timeout_method", "")
"""


@pytest.mark.parametrize(
    ("plugin", "text", "options", "said"),
    [
        (
            "playwright",
            'def pytest_addoption(parser):\n    parser.addoption("--device")\n',
            (),
            "The harness' option '--device' is one of another pytest plugin as well: leave that "
            "plugin out with -p no:playwright",
        ),
        (
            "timeout",
            TIMEOUT,
            ("--timeout=9", "--timeout-method=thread"),
            "pytest-timeout's method `thread` ends the whole run",
        ),
    ],
)
def test_what_cannot_be_together_is_one_sentence(tmp_path, plugin, text, options, said):
    if installed(f"pytest-{plugin}"):
        pytest.skip(f"the real pytest-{plugin} is installed")
    (tmp_path / f"{plugin}.py").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", plugin, "--device=cpu", *options],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 4, done.stdout + done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr


@pytest.mark.skipif(not all(map(installed, MOST_USED)), reason=f"needs {', '.join(MOST_USED)}")
def test_the_twelve_most_used_plugins_together(harness_run, copy_of, tmp_path):
    cov, report, ctrf = (tmp_path / name for name in ("cov.json", "report.json", "ctrf.json"))
    (tmp_path / ".coveragerc").write_text("[run]\nsource = cases\n")
    bad = copy_of("bad")
    (bad / "config.json").write_text("{")
    done = harness_run(
        "--device", "npu-emulated", "--count", "2", "--reruns", "1", "--timeout", "500",
        "--splits", "1", "--group", "1", "--cov=cases", f"--cov-report=json:{cov}",
        f"--cov-config={tmp_path}/.coveragerc", "--json-report",
        f"--json-report-file={report}", f"--ctrf={ctrf}",
        cases=entry(copy_of("good")) + entry(bad),
        env={"COVERAGE_FILE": str(tmp_path / ".coverage")},
    )  # fmt: skip
    assert statuses(done) == {"good": Status.PASS, "bad": Status.FAIL_LOAD}, done.text
    assert done.cases["good"].attempts == [Status.PASS] * 2
    assert set(done.cases["bad"].attempts) == {Status.FAIL_LOAD}
    assert done.code == 1 and done.run.missing == [], done.text
    assert cov.exists() and report.exists() and ctrf.exists()
    assert "INTERNALERROR" not in done.text and "error_harness" not in done.text
