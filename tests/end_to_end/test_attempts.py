"""Whoever has a case tried again, no verdict is lost; a folder of results has one run."""

import xml.etree.ElementTree as ET

import pytest

from harness.records import results_file
from harness.system.status import Status, UsageProblem
from tests.makers.cases import entry, plan


def test_a_second_try_that_passes_takes_no_verdict_away(harness_run, copy_of, tmp_path):
    junit = tmp_path / "j.xml"
    done = harness_run(
        "--device=npu-emulated", "--operator-share=0", "--localize=never",
        "-p", "tests.makers.again",
        plan(tmp_path, kind="nan_output", operator="Convolution"),
        f"--junitxml={junit}", cases=entry(copy_of("good")), env={"AGAIN_HEALS": "1"},
    )  # fmt: skip
    (case,) = done.run.cases
    assert (case.status, case.attempts) == (Status.FAIL_NAN, [Status.FAIL_NAN, Status.PASS])
    assert done.code == 1, done.text
    assert "Tried 2 times: fail_nan, then pass. The worse verdict stands" in done.text
    assert "1 failed" in done.text and "1 passed" not in done.text
    assert "1 of 1 cases; 1 fail_nan" in done.text
    properties = {p.get("name"): p.get("value") for p in ET.parse(junit).iter("property")}
    assert properties["status"] == "fail_nan"


def test_a_second_try_that_gives_the_same_is_said_and_passes(harness_run, copy_of):
    done = harness_run("--device=cpu", "-p", "tests.makers.again", cases=entry(copy_of("good")))
    assert done.code == 0, done.text
    assert done.run.cases[0].attempts == [Status.PASS, Status.PASS]


def test_trouble_that_comes_back_is_no_failure_of_a_test(harness_run, copy_of, tmp_path):
    planted = plan(tmp_path, kind="error_code", operator="Convolution")
    done = harness_run(
        "--device=npu-emulated", planted, "-p", "tests.makers.again",
        cases=entry(copy_of("good")),
    )  # fmt: skip
    assert done.run.cases[0].attempts == [Status.ERROR_DEVICE] * 2
    assert done.code == 10, done.text


@pytest.mark.parametrize("options", [(), ("-n", "1")])
def test_a_second_run_in_the_same_folder_is_refused(harness_run, copy_of, tmp_path, options):
    held = results_file.own(tmp_path / "results")
    try:
        with pytest.raises(UsageProblem, match="Another run is writing"):
            results_file.own(tmp_path / "results")
        done = harness_run("--device=cpu", *options, cases=entry(copy_of("good")))
    finally:
        held.release()
    assert done.code == 4, done.text
    assert "Another run is writing its records to" in done.text
    assert not (tmp_path / "results" / "results.jsonl").exists()
