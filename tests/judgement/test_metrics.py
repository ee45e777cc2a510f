import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.spatial.distance
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from harness.judgement import metrics
from harness.judgement.metrics import SAMPLE_SIZE
from harness.system.files import ROOT
from tests.makers.report import full_case

LOGITS = arrays(
    np.float64,
    st.tuples(st.integers(1, 5), st.integers(1, 7)),
    elements=st.floats(-50, 50, allow_subnormal=False),
)


def pair_of(seed: int, shape: tuple[int, ...] = (4, 9)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape), rng.normal(size=shape)


@given(LOGITS)
def test_softmax_agrees_with_torch(logits):
    expected = torch.softmax(torch.from_numpy(logits), dim=-1).numpy()
    np.testing.assert_allclose(metrics.softmax(logits), expected, rtol=1e-12, atol=1e-300)


def test_softmax_of_float16_extremes_is_finite():
    logits = np.array([[65504, -65504, 0]], np.float16)
    np.testing.assert_array_equal(metrics.softmax(logits), [[1.0, 0.0, 0.0]])


@given(st.integers(0, 1000))
def test_cosine_agrees_with_scipy(seed):
    a, b = pair_of(seed)
    expected = [1 - scipy.spatial.distance.cosine(x, y) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(metrics.cosine_similarity(a, b), expected, atol=1e-12)


@given(st.integers(0, 1000), st.floats(1e-3, 1e3), st.permutations(range(4)))
def test_cosine_ignores_scale_and_follows_a_permutation(seed, scale, order):
    a, b = pair_of(seed)
    plain = metrics.cosine_similarity(a, b)
    np.testing.assert_allclose(metrics.cosine_similarity(a, scale * b), plain, atol=1e-12)
    np.testing.assert_allclose(metrics.cosine_similarity(a[order], b[order]), plain[order])


def test_cosine_of_zero_rows_is_nan_even_when_both_are_zero():
    zero = np.zeros((1, 3))
    assert np.isnan(metrics.cosine_similarity(zero, zero)).all()
    assert np.isnan(metrics.cosine_similarity(zero, np.ones((1, 3)))).all()


@pytest.mark.parametrize("row", range(4))
def test_cosine_is_nan_exactly_where_a_nan_is(row):
    a, b = pair_of(0)
    b[row, 2] = np.nan
    assert np.flatnonzero(np.isnan(metrics.cosine_similarity(a, b))).tolist() == [row]


def test_error_rate_is_the_documented_formula():
    assert metrics.error_rate_percent(0.999997) == pytest.approx(0.0003)
    assert metrics.error_rate_percent(1.0) == 0.0
    assert metrics.error_rate_percent(0.99) == pytest.approx(1.0)


@given(st.integers(0, 1000))
def test_errors_agree_with_torch(seed):
    a, b = pair_of(seed)
    ta, tb = torch.from_numpy(a), torch.from_numpy(b)
    assert metrics.mean_absolute_error(a, b) == pytest.approx((ta - tb).abs().mean().item())
    assert metrics.rmse(a, b) == pytest.approx(((ta - tb) ** 2).mean().sqrt().item())


def test_the_worst_element_is_named():
    a = np.zeros((2, 3, 4))
    b = a.copy()
    b[1, 2, 0] = -5.0
    b[0, 0, 0] = 4.0
    worst = metrics.Pair.of(a, b).worst
    assert (worst.difference, worst.index) == (5.0, (1, 2, 0))


def test_spread_ignores_what_all_images_share():
    a, _ = pair_of(3)
    shared = np.arange(9.0)
    assert metrics.spread(a + shared) == pytest.approx(metrics.spread(a))
    assert metrics.spread(np.tile(shared, (4, 1))) == 0.0


def test_spread_of_one_image_is_its_own_deviation():
    assert metrics.spread(np.array([[1.0, 3.0]])) == 1.0


@given(st.integers(0, 1000), st.floats(1e-3, 1e3))
def test_rmse_and_spread_scale_alike(seed, scale):
    a, b = pair_of(seed)
    assert metrics.rmse(scale * a, scale * b) == pytest.approx(scale * metrics.rmse(a, b))
    assert metrics.spread(scale * a) == pytest.approx(scale * metrics.spread(a))


def test_a_quotient_without_a_signal_is_never_a_number():
    assert metrics.quotient(3.0, 2.0) == 1.5
    assert metrics.quotient(1.0, 0.0) == np.inf
    assert np.isnan(metrics.quotient(0.0, 0.0))


@pytest.mark.parametrize("size", [1, 149, 150, 151, 20_000])
@pytest.mark.parametrize("levels", [2, 10**9])  # few: most differences are equal
def test_the_sample_holds_the_greatest_differences(size, levels):
    generator = np.random.default_rng(size)
    a, difference = generator.normal(size=size), generator.integers(0, levels, size).astype(float)
    sample = metrics.paired_sample(metrics.Pair.of(a, a + difference))
    assert len(sample.reference) == len(sample.difference) <= metrics.SAMPLE_SIZE
    assert sample.total == size
    worst = np.sort(a + difference - a)[-metrics.SAMPLE_WORST :]
    np.testing.assert_allclose(np.sort(sample.difference)[-metrics.SAMPLE_WORST :], worst, 6e-3)


def test_sums_do_not_depend_on_the_threads_of_blas():
    program = (
        "import numpy as np; from harness.judgement import metrics;"
        "values = np.random.default_rng(0).normal(size=(3, 500_000));"
        "print(metrics.root_mean_square(values).hex(), np.sqrt((values**2).mean()))"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads},
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        for threads in ("1", "2", "3")
    ]
    assert len({ours for ours, _ in found}) == 1
    for ours, numpy in found:
        assert float.fromhex(ours) == pytest.approx(float(numpy), rel=1e-12)


def test_norm_ratio_sees_the_scale_that_no_cosine_sees():
    a, _ = pair_of(1)
    assert metrics.Pair.of(a, 0.9 * a).norm_ratio == pytest.approx(0.9)


def test_top1_margin():
    np.testing.assert_array_equal(metrics.top1_margin(np.array([[1.0, 5.0, 3.0]])), [2.0])
    np.testing.assert_array_equal(metrics.top1_margin(np.array([[1.0]])), [np.inf])


def test_count_nonfinite():
    assert metrics.count_nonfinite(np.array([1.0, np.nan, np.inf, -np.inf])) == 3


def test_discrimination_of_equal_and_of_different_images():
    same = metrics.discrimination(np.tile(np.arange(5.0), (3, 1)))
    assert same.max_cosine == pytest.approx(1.0)
    assert (same.distinct_top1, same.logit_spread) == (1, 0.0)
    different = metrics.discrimination(20 * np.eye(3, 5))
    assert different.max_cosine < 1e-6
    assert (different.distinct_top1, different.min_margin) == (3, 20.0)


def test_discrimination_of_one_image_is_unknown():
    assert np.isnan(metrics.discrimination(np.ones((1, 3))).max_cosine)


@pytest.mark.parametrize(
    "formula",
    [metrics.mean_absolute_error, metrics.rmse, metrics.cosine_similarity, metrics.Pair.of],
)
def test_shapes_must_match(formula):
    with pytest.raises(ValueError, match="shape"):
        formula(np.ones((2, 3)), np.ones((3, 2)))


def test_nothing_to_compare_is_an_error():
    with pytest.raises(ValueError, match="no elements"):
        metrics.mean_absolute_error(np.ones((0, 3)), np.ones((0, 3)))


def test_the_sample_is_part_of_the_record_and_small():
    (out,) = full_case("a", bad=True).outputs
    assert len(out.sample.reference) == len(out.sample.difference) <= SAMPLE_SIZE
    assert out.sample.total == 600
    assert max(map(abs, out.sample.difference)) == pytest.approx(out.max_abs_error, rel=1e-2)
