import pytest

from harness.system.status import Status, worst


def test_precedence_is_the_designs():
    assert [status.value for status in Status] == [
        "error_harness", "error_device", "error_crash", "error_timeout", "error_oom",
        "fail_load", "fail_reference", "fail_unsupported", "fail_fallback", "fail_shape",
        "fail_nan", "flaky", "fail_accuracy", "inconclusive", "pass", "skip",
    ]  # fmt: skip


def test_worst_takes_the_higher():
    assert worst([Status.PASS, Status.FAIL_ACCURACY, Status.FAIL_NAN]) is Status.FAIL_NAN
    assert worst([Status.INCONCLUSIVE, Status.PASS]) is Status.INCONCLUSIVE


def test_no_finding_is_no_outcome():
    with pytest.raises(ValueError, match="no statuses"):
        worst([])


def test_only_pass_passes():
    assert [status for status in Status if status.is_pass] == [Status.PASS]
