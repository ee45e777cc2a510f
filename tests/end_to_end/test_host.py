"""What the host lacks is said before the run where it can be, and takes no verdict away."""

import pytest

from harness.system.status import Status

MODEL = ("--device", "cpu", "--model", "test_resnet", "--numerics", "strict")


@pytest.fixture
def blocked(tmp_path):
    """A path below a file: whoever runs the tests, root too, can make nothing there."""
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "below"


def refused(done, *said):
    assert done.code == 4, done.text
    assert all(text in done.text for text in said), done.text
    assert "Traceback" not in done.text and "INTERNALERROR" not in done.text
    assert not (done.results / "results.jsonl").exists()


@pytest.mark.parametrize("option", ["--html", "--junitxml"])
def test_a_report_that_cannot_be_written_is_said_before_the_run(harness_run, blocked, option):
    refused(harness_run(*MODEL, f"{option}={blocked}"), f"{option} {blocked} cannot be written")


def test_results_that_cannot_be_written_are_said_before_the_run(harness_run, blocked):
    refused(harness_run(*MODEL, "--results", str(blocked)), "Cannot write results to", "--results")


def test_a_cache_that_cannot_be_written_is_said_before_the_run(harness_run, blocked):
    done = harness_run(*MODEL, env={"HARNESS_CACHE_DIR": str(blocked)})
    refused(done, f"The cache {blocked} cannot be written", "set HARNESS_CACHE_DIR")


def test_a_model_directory_needs_no_cache(harness_run, copy_of, blocked):
    done = harness_run(
        "--device", "cpu", "--model", str(copy_of("mine")), "--numerics", "strict",
        env={"HARNESS_CACHE_DIR": str(blocked)},
    )  # fmt: skip
    assert {case.status for case in done.run.cases} == {Status.PASS}, done.text


def test_a_disk_that_is_full_when_reports_are_written_costs_the_reports_alone(
    harness_run, tmp_path
):
    for name in ("page.html", "junit.xml"):
        (tmp_path / name).symlink_to("/dev/full")
    done = harness_run(
        *MODEL, f"--html={tmp_path / 'page.html'}", "--self-contained-html",
        f"--junitxml={tmp_path / 'junit.xml'}",
    )  # fmt: skip
    assert done.code == 10 and "No space left on device" in done.text, done.text
    assert "INTERNALERROR" not in done.text and "Traceback" not in done.text
    assert [case.status for case in done.run.cases] == [Status.PASS]
    assert done.run.end is not None
