import pytest

from harness.runs.progress import Progress, show_time
from harness.system.status import Status


def test_a_line_says_done_not_passed_rate_and_time_left():
    progress = Progress(total=10, started=100.0, every=30.0)
    assert progress.ended(Status.PASS, 110.0) is None
    assert progress.ended(Status.ERROR_CRASH, 129.0) is None
    line = progress.ended(Status.FAIL_NAN, 130.0)
    assert line == "3 of 10 cases; 1 error_crash, 1 fail_nan; 6.0 a minute; about 70 s left"
    assert progress.ended(Status.PASS, 131.0) is None
    assert progress.ended(Status.PASS, 161.0).startswith("5 of 10 cases")


def test_the_last_case_always_has_a_line():
    progress = Progress(total=1, started=0.0, every=1000.0)
    assert progress.ended(Status.PASS, 6.0) == "1 of 1 cases; all passed; 10.0 a minute; done"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (600, "10 min"), (36_000, "10.0 h")]
)
def test_times_are_short(seconds, text):
    assert show_time(seconds) == text
