"""The error of one operator: what honest rounding can give, and what it cannot."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.judgement.operator_error import (
    FALSE_ALARM,
    SLICE_PRIOR,
    Rounding,
    chance,
    one_sided,
    own_error,
)
from harness.judgement.operator_rows import RATIO_LIMIT, SLICE_RATIO_LIMIT

ROUNDING = {
    torch.float16: Rounding(2**-11, 0.0, 2**-24),
    torch.bfloat16: Rounding(2**-8, 0.0, 2**-133),
}


@pytest.mark.parametrize("dtype", list(ROUNDING))
@pytest.mark.parametrize("scale", [1e-7, 1e-3, 1.0, 1e4])
@pytest.mark.parametrize("shape", [(1, 1), (2, 300), (2, 40, 1, 1), (3, 8, 5, 5)])
def test_rounding_to_nearest_stays_below_the_root_of_three(dtype, scale, shape):
    generator = torch.Generator().manual_seed(hash((scale, shape)) % 1000)
    exact = torch.randn(shape, generator=generator, dtype=torch.float64) ** 5 * scale
    exact = exact.clamp(-60000, 60000)
    error = own_error(
        exact.numpy(), exact.numpy(), exact.to(dtype).double().numpy(), ROUNDING[dtype]
    )
    assert 0 <= error.ratio <= 3**0.5 * (1 + 1e-9)
    # The slices' prior can only raise their budget.
    assert error.worst_slice_ratio <= 3**0.5 * (1 + 1e-9)


def test_a_dead_channel_shows_in_its_slice_and_a_wrong_item_in_its():
    exact = np.random.default_rng(0).normal(size=(4, 256, 6, 6))
    budget = exact * (1 + 2**-9)
    dead = budget.copy()
    dead[:, 31] = 0
    error = own_error(exact, budget, dead, Rounding(2**-9))
    assert error.worst_slice == (1, 31) and error.worst_slice_ratio > 100
    assert error.ratio < error.worst_slice_ratio / 5
    swapped = budget.copy()
    swapped[3] = budget[0]
    assert own_error(exact, budget, swapped, Rounding(2**-9)).worst_slice == (0, 3)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (2, 3, 4, 5), (2, 1, 3, 2, 4)])
def test_slices_are_taken_along_every_dimension(shape):
    generator = np.random.default_rng(1)
    exact = generator.normal(size=shape)
    rounding = Rounding(2**-11)
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        wrong = exact.copy()
        part = np.moveaxis(wrong, axis, 0)[size - 1]  # a view
        part *= 1.5
        error = own_error(exact, exact, wrong, rounding)
        difference = np.moveaxis(wrong - exact, axis, 0)[size - 1]
        power = np.mean(np.square(exact)) * 2**-22 / 3
        prior = SLICE_PRIOR * power / (difference.size + SLICE_PRIOR)
        own = np.mean(np.square(np.moveaxis(exact, axis, 0)[size - 1])) * 2**-22 / 3
        expected = np.sqrt(np.mean(np.square(difference)) / max(prior, own))
        expected /= chance(difference.size, SLICE_RATIO_LIMIT)
        assert error.worst_slice_ratio >= expected * (1 - 1e-9)
        if error.worst_slice == (axis, size - 1):
            assert error.worst_slice_ratio == pytest.approx(expected)
        assert error.ratio == pytest.approx(np.sqrt(np.mean(np.square(wrong - exact)) / power))


def test_own_error_of_exact_and_of_impossible_results():
    zeros = np.zeros((2, 3))
    assert own_error(zeros, zeros, zeros, Rounding(0)).ratio == 0
    wrong = zeros.copy()
    wrong[1, 2] = 1
    assert own_error(zeros, zeros, wrong, Rounding(0)).ratio == np.inf
    broken = np.ones((2, 3))
    broken[0, 1] = np.nan
    error = own_error(np.ones((2, 3)), np.ones((2, 3)), broken, Rounding(1e-3))
    assert error.nonfinite == 1 and error.ratio == 0
    overflow = np.array([[np.inf, 1.0]])
    error = own_error(np.ones((1, 2)), overflow, overflow, Rounding(1e-3))
    assert error.nonfinite == 0, "the declared format overflows there as well"
    with pytest.raises(ValueError, match="shapes differ"):
        own_error(zeros, zeros, np.zeros((3, 2)), Rounding(0))


def test_the_limits_of_few_elements_hold_false_alarms_below_one_in_ten_thousand_cases():
    """The quantile of a chi-square, from its own tail: P(chi2_2 > x) = exp(-x / 2)."""
    assert chance(2, 1.0) == pytest.approx(np.sqrt(-np.log(FALSE_ALARM)), rel=1e-9)
    few = chance(np.arange(1, 30), SLICE_RATIO_LIMIT)
    assert few[0] == pytest.approx(6.467 / 4, rel=1e-3)  # of a normal number, either sign
    assert list(few[3:]) == [1.0] * 26 and chance(20, RATIO_LIMIT) == 1.0


def test_terms_that_cancel_allow_what_their_result_does_not():
    """One row of a product whose terms are a hundred times its result."""
    exact = np.ones((4, 50))
    off = exact + 1e-5 * np.random.default_rng(0).normal(size=exact.shape)
    least = Rounding(2**-24, 2**-24 * np.sqrt(8))
    assert own_error(exact, exact, off, least).ratio > RATIO_LIMIT
    inner = np.full(exact.shape, 1e-5)
    fine = own_error(exact, exact, off, least, inner=inner)
    assert 0.8 < fine.ratio < 1.2 and fine.worst_slice_ratio < SLICE_RATIO_LIMIT
    inner[2] = 1e-8  # where a slice's own terms are small, its errors must be
    found = own_error(exact, exact, off, least, inner=inner)
    assert found.ratio < RATIO_LIMIT and found.worst_slice is not None


def summed(terms, rounded):
    """Sums over the last dimension, of float64, each partial one brought to float32."""
    total = np.zeros(terms.shape[:-1])
    for step in np.moveaxis(terms, -1, 0):
        total = rounded(total + step)
    return total


def towards(values, what):
    """float32 next to `values` on one side, as float64: "zero", "down" or "nearest"."""
    near = values.astype(np.float32)
    if what == "nearest":
        return near.astype(np.float64)
    beyond = np.abs(near) > np.abs(values) if what == "zero" else near > values
    end = np.float32(0) if what == "zero" else np.float32(-np.inf)
    return np.where(beyond, np.nextafter(near, end), near).astype(np.float64)


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("count", [12, 64])
def test_sums_that_are_rounded_to_one_side_lean(offset, count):
    terms = np.random.default_rng(2).normal(offset, 1.0, (40_000, count))
    exact, unit = terms.sum(-1), 2.0**-24
    single = exact.astype(np.float32)
    for reference in (exact, single):  # a reference that is rounded itself shows it as well
        nearest = summed(terms, lambda x: towards(x, "nearest"))
        assert one_sided(reference, nearest, unit) < RATIO_LIMIT / 2
        for side in ("zero", "down"):
            leaning = summed(terms, lambda x, side=side: towards(x, side))
            assert one_sided(reference, leaning, unit) > RATIO_LIMIT


def test_one_store_that_is_truncated_is_no_leaning_sum():
    exact = np.random.default_rng(3).normal(size=100_000)
    stored = towards(exact, "zero")
    assert one_sided(exact, stored, 2.0**-24) == 0.0
    assert one_sided(exact, stored, 0.0) > RATIO_LIMIT


def test_leaning_ignores_what_is_not_finite_and_what_is_equal():
    exact = np.random.default_rng(4).normal(size=(50, 50))
    assert one_sided(exact, exact, 0.0) == 0.0
    spoiled = exact * (1 - 1e-6)
    spoiled[0, 0] = np.nan
    assert one_sided(exact, spoiled, 2.0**-24) > RATIO_LIMIT
