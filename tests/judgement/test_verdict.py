import numpy as np
import pytest

from harness.judgement import budget
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.budget import Budget
from harness.judgement.verdict import Evidence, judge
from harness.system.status import Status
from tests.makers.evidence import LABELS, NOISE, evidence, logits, noisy, verdict


def test_equal_outputs_pass():
    result = verdict(logits())
    assert result.status is Status.PASS
    assert result.gate.error_rate_percent == pytest.approx(0.0, abs=1e-12)
    assert result.gate.top1_agreement_percent == 100.0


def test_a_wrong_image_fails_accuracy():
    wrong = logits()
    wrong[2] = wrong[3]
    result = verdict(wrong)
    assert result.status is Status.FAIL_ACCURACY
    assert "Top-1 of image 2" in " ".join(f.reason for f in result.findings)


def test_equal_outputs_are_inconclusive():
    alike = np.tile(logits()[:1], (6, 1))
    result = verdict(alike, alike)
    assert result.status is Status.INCONCLUSIVE and result.separation.distance == 0
    assert result.gate.passed  # which is the point: the protocol's gate is blind here


def test_what_is_closer_than_the_greatest_error_that_passes_is_inconclusive():
    def of(size):
        pair = logits()[:1] + np.array([[0.0], [size]]) * logits(9)[:1]
        sides = {"output": pair}
        return judge(evidence(sides, sides, labels=LABELS[:2], arithmetic=Arithmetic()))

    unit = of(1.0).separation.distance
    assert unit > 100
    for apart, status in ((0.9, Status.INCONCLUSIVE), (1.1, Status.PASS)):
        assert of(apart / unit).status is status


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_a_confident_classifier_of_few_classes_can_pass(classes):
    confident = 9 * np.eye(classes)[np.arange(6) % classes] + 0.1 * logits()[:, :classes]
    result = verdict(confident, confident)
    assert result.status is Status.PASS
    assert any("gate is blind" in note for note in result.notes)
    swapped = confident[[classes % 6, *range(1, 6)]]
    assert verdict(swapped, confident).status is Status.FAIL_ACCURACY


def test_one_image_is_inconclusive():
    one = logits()[:1]
    result = judge(evidence({"output": one}, {"output": one}, labels=LABELS[:1]))
    assert result.status is Status.INCONCLUSIVE
    assert "One image only" in result.leading.reason


def test_a_failure_outranks_inconclusive():
    alike = np.tile(logits()[:1], (6, 1))
    result = verdict(-alike, alike)
    assert {Status.INCONCLUSIVE, Status.FAIL_ACCURACY} <= {f.status for f in result.findings}
    assert result.status is Status.FAIL_ACCURACY


def test_outputs_that_are_all_zero_are_equal_and_show_nothing():
    zero = np.zeros((6, 8))
    sides = {"output": zero}
    result = judge(evidence(sides, sides, logits=None, noise=0.0))
    assert result.status is Status.INCONCLUSIVE
    assert "the same for all images" in result.leading.reason
    assert (result.budgets[0].ratio, result.outputs[0].min_cosine) == (0.0, 1.0)


def test_an_image_that_is_zero_on_both_sides_is_equal():
    features = logits()
    features[4] = 0.0
    assert verdict(features, features).status is Status.PASS


@pytest.mark.parametrize("image", [slice(None), slice(2, 3)], ids=["all", "one"])
def test_zeros_from_the_device_are_a_wrong_number_and_no_nan(image):
    dead = logits()
    dead[image] = 0.0
    result = judge(evidence({"f": dead}, {"f": logits()}, logits=None))
    assert result.status is Status.FAIL_ACCURACY
    assert result.outputs[0].min_cosine == 0.0


def test_values_where_the_cpu_has_zeros_are_wrong():
    zero = np.zeros((6, 100))
    result = judge(evidence({"f": logits()}, {"f": zero}, logits=None, noise=0.0))
    assert result.status is Status.FAIL_ACCURACY


def test_without_a_classifier_the_budget_of_each_output_decides():
    a, b = logits(), logits(1)
    good = judge(evidence({"f": a, "g": b}, {"f": a, "g": b}, logits=None))
    assert (good.status, good.gate) == (Status.PASS, None)
    bad = judge(evidence({"f": a, "g": 0.99 * b}, {"f": a, "g": b}, logits=None))
    assert bad.status is Status.FAIL_ACCURACY
    assert "'g'" in bad.leading.reason


@pytest.mark.parametrize("seed", range(20))
def test_honest_rounding_passes(seed):
    result = verdict(noisy(seed))
    assert result.status is Status.PASS
    assert 0.5 < result.budgets[0].ratio < 1.5
    for row in result.budgets:
        assert row.device.max_abs == max(row.device.image_max_abs) > row.device.rmse > 0


def test_a_scaled_output_passes_the_gate_and_fails_the_budget():
    result = verdict(0.9 * logits())
    assert result.gate.passed
    assert result.status is Status.FAIL_ACCURACY


def test_one_bad_image_of_many_fails_though_the_overall_ratio_would_not():
    bad = noisy(1)
    bad[3] += 6 * NOISE * np.random.default_rng(5).normal(size=100)
    result = verdict(bad)
    (row,) = result.budgets
    assert row.ratio < row.limit < row.image_ratios[3]
    assert result.status is Status.FAIL_ACCURACY
    assert "worst image 3" in result.leading.reason


def close_race():
    """Logits whose image 0 has two classes a hair apart."""
    reference = logits()
    reference[0, 7] = reference[0].max() + 1.0
    reference[0, 8] = reference[0, 7] - NOISE
    return reference


def test_a_flip_inside_the_format_budget_is_reported_and_not_failed():
    reference = close_race()
    device = reference.copy()
    device[0, 8] += 2 * NOISE
    result = verdict(device, reference)
    assert result.gate.top1_matches == 5
    assert result.status is Status.PASS
    assert any("Top-1 of image 0" in note for note in result.notes)


def test_a_flip_that_no_allowed_error_explains_fails():
    reference = close_race()
    reference[0, 8] = reference[0, 7] - 0.02
    device = reference.copy()
    device[0, 8] += 0.021  # rmse of the image stays near its budget
    result = verdict(device, reference)
    assert result.budgets[0].within
    assert result.status is Status.FAIL_ACCURACY
    assert "Top-1 of image 0" in result.leading.reason


def test_a_gate_that_fails_within_the_budget_accuses_nobody():
    result = verdict(noisy(3, 0.6), noise=0.6)
    assert result.budgets[0].within
    assert not result.gate.passed
    assert result.status is Status.INCONCLUSIVE


def test_noise_as_large_as_the_signal_is_inconclusive():
    faint = 3e-4 * logits()
    result = judge(evidence({"f": faint}, {"f": faint}, logits=None))
    assert result.status is Status.INCONCLUSIVE
    assert "noise" in result.leading.reason


@pytest.mark.parametrize("variant", ["permuted", "alone"])
def test_an_image_that_depends_on_its_batch_fails(variant):
    wrong = logits()
    wrong[5] = wrong[0]
    for values, status in ((logits(), Status.PASS), (wrong, Status.FAIL_ACCURACY)):
        result = verdict(logits(), variants={variant: {"output": values}})
        assert result.status is status
    assert "depends on its batch" in result.leading.reason


def test_nan_in_another_batching_fails():
    broken = logits()
    broken[0, 0] = np.nan
    assert verdict(logits(), variants={"alone": {"output": broken}}).status is Status.FAIL_NAN


def test_an_image_lost_in_another_batching_fails():
    result = verdict(logits(), variants={"alone": {"output": logits()[:5]}})
    assert result.status is Status.FAIL_SHAPE
    assert "one by one" in result.leading.reason


def other_form(size: float, device_noise: float = 1e-6):
    """A device that computes another form of GELU, and that form's float64 and honest runs."""
    rng = np.random.default_rng(5)
    asked = close_race()
    form = asked + size * rng.normal(size=asked.shape)
    form[0, 8] = form[0, 7] + size  # that alone turns the Top-1 of image 0
    runs = tuple({"output": form + 1e-6 * rng.normal(size=form.shape)} for _ in range(2))
    return Evidence(
        reference={"output": asked},
        candidate={"output": form + device_noise * rng.normal(size=form.shape)},
        logits="output",
        labels=LABELS,
        oracle={"output": form},
        as_asked={"output": asked},
        budget=Budget(Arithmetic(gelu="tanh"), runs),
    )


def test_another_form_is_judged_for_what_it_is_and_its_cost_is_said():
    result = judge(other_form(0.01))
    assert result.status is Status.PASS
    (row,) = result.budgets
    assert row.limit == budget.EXACT_LIMIT and row.ratio == pytest.approx(1, abs=0.2)
    assert row.cpu.rmse == pytest.approx(1e-6, rel=0.2)  # the CPU in the same form
    form, flip = result.notes
    assert "every gelu in its tanh form" in form and "nrmse 0.00" in form
    assert "Top-1 of image 0" in flip  # the form explains it


def test_a_fault_far_below_what_a_form_costs_is_seen():
    result = judge(other_form(0.01, device_noise=3e-5))
    assert result.status is Status.FAIL_ACCURACY
    assert "the CPU's own float32 error" in result.leading.reason
