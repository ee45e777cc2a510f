import pytest

from harness.runs.progress import Progress, show_time
from harness.system.status import Status


def test_a_line_says_done_not_passed_rate_and_time_left():
    progress = Progress(total=10, started=100.0, every=30.0)
    assert progress.ended("0", Status.PASS, 110.0) is None
    assert progress.ended("1", Status.ERROR_CRASH, 129.0) is None
    line = progress.ended("2", Status.FAIL_NAN, 130.0)
    assert line == "3 of 10 cases; 1 error_crash, 1 fail_nan; 6.0 a minute; about 70 s left"
    assert progress.ended("3", Status.PASS, 131.0) is None
    assert progress.ended("4", Status.PASS, 161.0).startswith("5 of 10 cases")


def test_nothing_is_said_to_have_passed_before_a_case_has():
    assert Progress(total=6, started=0.0, every=0.0).line(90.0) == "0 of 6 cases"


def test_no_estimate_comes_from_the_case_that_compiled():
    progress = Progress(total=6, started=0.0, every=0.0)
    assert progress.ended("a", Status.PASS, 240.0) == "1 of 6 cases; all passed"
    line = progress.ended("b", Status.PASS, 250.0)
    assert line == "2 of 6 cases; all passed; 6.0 a minute; about 40 s left"


def test_the_last_case_always_has_a_line():
    progress = Progress(total=1, started=0.0, every=1000.0)
    assert progress.ended("5", Status.PASS, 6.0) == "1 of 1 cases; all passed; 10.0 a minute; done"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (600, "10 min"), (36_000, "10.0 h")]
)
def test_times_are_short(seconds, text):
    assert show_time(seconds) == text


def test_a_case_that_is_tried_again_counts_once_and_its_worse_verdict_stands():
    progress = Progress(total=2, started=0.0, every=0.0)
    lines = [
        progress.ended("a", status, 60.0)
        for status in (Status.ERROR_OOM, Status.FAIL_NAN, Status.PASS)
    ]
    assert lines[0] == "1 of 2 cases; 1 error_oom"
    assert lines[1] == lines[2] == "1 of 2 cases; 1 fail_nan"
