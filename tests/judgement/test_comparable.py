import numpy as np
import pytest

from harness.judgement.verdict import judge
from harness.system.status import Status
from tests.makers.evidence import evidence, logits, verdict


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_nonfinite_value_is_fail_nan_before_any_number(bad):
    broken = logits()
    broken[4, 7] = bad
    result = verdict(broken)
    assert result.status is Status.FAIL_NAN
    assert "[4, 7]" in result.leading.reason
    assert result.gate is None


def test_nan_on_both_sides_is_no_agreement():
    broken = logits()
    broken[0, 0] = np.nan
    result = verdict(broken, broken)
    assert result.status is Status.FAIL_REFERENCE


def test_missing_and_extra_outputs_fail():
    result = verdict(logits(), name="other")
    assert result.status is Status.FAIL_SHAPE
    reasons = " ".join(f.reason for f in result.findings)
    assert "'output' is missing on the device" in reasons
    assert "'other' exists on the device" in reasons


@pytest.mark.parametrize("got", [logits()[:5], logits()[:0], logits()[:, :99], logits()[..., None]])
def test_another_shape_fails(got):
    assert verdict(got).status is Status.FAIL_SHAPE


def test_no_output_at_all_fails():
    result = judge(evidence({}, {}, logits=None))
    assert result.status is Status.FAIL_SHAPE
