import numpy as np
import pytest

from harness.status import Status
from harness.verdict import documented_gate, judge

LABELS = [f"image {i}" for i in range(6)]


def logits(seed: int = 0) -> np.ndarray:
    return 3 * np.random.default_rng(seed).normal(size=(6, 100))


def verdict(candidate, reference=None, name="output"):
    reference = logits() if reference is None else reference
    return judge({"output": reference}, {name: candidate}, logits="output", labels=LABELS)


def test_equal_outputs_pass():
    result = verdict(logits())
    assert result.status is Status.PASS
    assert result.gate.error_rate_percent == pytest.approx(0.0, abs=1e-12)
    assert result.gate.top1_agreement_percent == 100.0


def test_the_documented_tables_are_the_documented_formulas():
    rng = np.random.default_rng(1)
    cpu, npu = logits(), logits() + 0.05 * rng.normal(size=(6, 100))
    p = np.exp(cpu) / np.exp(cpu).sum(1, keepdims=True)
    q = np.exp(npu) / np.exp(npu).sum(1, keepdims=True)
    cosines = (p * q).sum(1) / np.sqrt((p * p).sum(1) * (q * q).sum(1))
    gate = documented_gate(cpu, npu, LABELS)
    np.testing.assert_allclose([row.cosine for row in gate.rows], cosines, rtol=1e-12)
    assert gate.mean_cosine == pytest.approx(cosines.mean())
    assert gate.mae == pytest.approx(np.abs(p - q).mean())
    assert gate.error_rate_percent == pytest.approx(100 * (1 - cosines.mean()))
    assert [row.cpu_top1 for row in gate.rows] == cpu.argmax(1).tolist()


def test_a_wrong_image_fails_accuracy():
    wrong = logits()
    wrong[2] = wrong[3]
    result = verdict(wrong)
    assert result.status is Status.FAIL_ACCURACY
    assert "1 of 6 images" in " ".join(f.reason for f in result.findings)


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
    result = judge({}, {}, logits=None, labels=LABELS)
    assert result.status is Status.FAIL_SHAPE


def test_outputs_that_are_alike_are_inconclusive():
    alike = np.tile(logits()[:1], (6, 1)) + 1e-3 * logits(5)
    result = verdict(alike, alike)
    assert result.status is Status.INCONCLUSIVE
    assert result.gate.passed  # which is the point: the documented gate is blind here


def test_one_image_is_inconclusive():
    one = logits()[:1]
    result = judge({"output": one}, {"output": one}, logits="output", labels=LABELS[:1])
    assert result.status is Status.INCONCLUSIVE
    assert "One image only" in result.leading.reason


def test_a_failure_outranks_inconclusive():
    alike = np.tile(logits()[:1], (6, 1))
    result = verdict(-alike, alike)
    assert {Status.INCONCLUSIVE, Status.FAIL_ACCURACY} <= {f.status for f in result.findings}
    assert result.status is Status.FAIL_ACCURACY


def test_all_zero_features_have_no_direction():
    zero = np.zeros((6, 8))
    result = judge({"output": zero}, {"output": zero}, logits=None, labels=LABELS)
    assert result.status is Status.FAIL_NAN


def test_without_a_classifier_the_cosine_of_each_output_decides():
    a, b = logits(), logits(1)
    good = judge({"f": a, "g": b}, {"f": a, "g": b}, logits=None, labels=LABELS)
    assert (good.status, good.gate) == (Status.PASS, None)
    bad = judge({"f": a, "g": b}, {"f": a, "g": -b}, logits=None, labels=LABELS)
    assert bad.status is Status.FAIL_ACCURACY
    assert "'g'" in bad.leading.reason
