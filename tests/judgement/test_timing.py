"""Statistics of times: known values, and coverage of the intervals by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.judgement import timing


def summary(seconds):
    return timing.summarise(list(seconds))


def lognormal(rng, count):
    """Skewed to slow calls, as times are; median 1."""
    return np.exp(0.3 * rng.normal(size=count))


def drifting(rng, count):
    """An AR(1) series, lag-1 correlation 0.6, through the exponential; median 1."""
    values = np.empty(count)
    values[0] = rng.normal()
    for i in range(1, count):
        values[i] = 0.6 * values[i - 1] + 0.8 * rng.normal()
    return np.exp(0.3 * values)


def test_percentiles_of_known_values():
    found = summary(np.random.default_rng(0).permutation(np.arange(1, 102)))  # 1 .. 101
    assert (found.p50, found.p90, found.p95, found.p99) == (51, 91, 96, 100)
    assert (found.mean, found.minimum, found.maximum, found.repeats) == (51, 1, 101, 101)


@pytest.mark.parametrize(("count", "known"), [(9, 0), (10, 1), (19, 1), (20, 2), (99, 2), (100, 3)])
def test_a_percentile_needs_a_value_beyond_it(count, known):
    found = summary(range(1, count + 1))
    assert [found.p90, found.p95, found.p99].count(None) == 3 - known


def test_order_statistics_of_the_median_are_the_textbook_ranks():
    # Ten independent values: the second and the ninth hold the median with 97.9 %.
    times = np.array([3, 8, 1, 10, 4, 7, 2, 9, 5, 6], float)
    assert timing.dependence(times) == 1
    assert timing.median_interval(times) == (2, 9)
    # Five are too few: even the extremes hold it with 93.75 % only.
    assert timing.median_interval(times[:5]) is None
    assert summary(times[:5]).precision == math.inf


def test_the_interval_of_the_mean_is_students_below_ten_values():
    times = np.array([1.0, 2.0, 3.0, 6.0])
    low, high = timing.mean_interval(times)
    reach = 3.182446 * np.std(times, ddof=1) / 2  # t, three degrees of freedom, 97.5 %
    assert (low, high) == pytest.approx((3 - reach, 3 + reach), rel=1e-6)
    assert timing.mean_interval(times[:2]) is None


def covered(draw, count, rounds=400):
    """Shares of simulated series whose intervals hold the true median and mean."""
    rng = np.random.default_rng(20)
    truth = float(np.mean(draw(rng, 200_000)))
    hits = np.zeros(2)
    for _ in range(rounds):
        found = summary(draw(rng, count))
        hits += (
            found.p50_low is not None and found.p50_low <= 1 <= found.p50_high,
            found.mean_low <= truth <= found.mean_high,
        )
    return hits / rounds


@pytest.mark.parametrize(("count", "least"), [(20, 0.94), (100, 0.92)])
def test_intervals_cover_with_independent_times(count, least):
    assert (covered(lognormal, count) >= least).all()


def test_intervals_nearly_cover_with_times_that_depend_on_each_other():
    # Without the factor for dependence the median is held in 0.75 of them.
    assert (covered(drifting, 200) >= 0.90).all()


def test_dependence_sees_drift_and_no_single_outlier():
    rng = np.random.default_rng(1)
    even = np.mean([timing.dependence(lognormal(rng, 200)) for _ in range(50)])
    drift = np.mean([timing.dependence(drifting(rng, 200)) for _ in range(50)])
    assert 1 <= even < 1.5 and 2 < drift < 5
    times = lognormal(rng, 200)
    slow = np.concatenate([times[:100], [1e6], times[100:]])
    assert timing.dependence(slow) == pytest.approx(timing.dependence(times), abs=0.3)
    assert timing.dependence(np.full(20, 0.5)) == 1


def test_outliers_are_counted_and_stay_in_the_numbers():
    times = [1.0] * 30 + [1.01] * 30 + [1.02] * 30 + [9.0, 0.1]
    found = summary(times)
    assert found.outliers == 2
    assert (found.maximum, found.minimum, found.repeats) == (9.0, 0.1, 92)
    assert found.mean == pytest.approx(np.mean(times))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([1, 1, 1], [1.04, 1.04, 9], True),  # medians: one slow call does not count
        ([1, 1, 1], [1.06, 1.06, 1.06], False),
        ([1.06, 1.06, 1.06], [1, 1, 1], False),
    ],
)
def test_warm_is_when_two_medians_agree(before, after, expected):
    assert timing.stable(before, after, 0.05) is expected


def test_the_ratio_of_two_medians_covers():
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(400):
        found = timing.ratio(summary(5 * lognormal(rng, 60)), summary(lognormal(rng, 30)))
        hits += found.low <= 5 <= found.high
    assert 0.93 <= hits / 400 <= 0.995


def test_the_ratio_of_a_thing_to_itself_holds_one_and_its_inverse_turns_it_round():
    rng = np.random.default_rng(4)
    a, b = summary(lognormal(rng, 50)), summary(2 * lognormal(rng, 50))
    same = timing.ratio(a, a)
    assert same.value == 1 and same.low < 1 < same.high
    one, other = timing.ratio(a, b), timing.ratio(b, a)
    assert one.value * other.value == pytest.approx(1)
    assert one.low * other.high == pytest.approx(1)
    assert timing.ratio(a, summary([1.0, 2.0])) is None


@pytest.mark.parametrize("times", [[], [1.0, math.nan], [1.0, math.inf], [-1.0]])
def test_what_is_no_time_is_refused(times):
    with pytest.raises(ValueError, match="finite"):
        timing.summarise(times)


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=300))
def test_the_numbers_are_in_order(times):
    found = summary(times)
    known = [found.minimum, found.p50, found.p90, found.p95, found.p99, found.maximum]
    known = [value for value in known if value is not None]
    assert known == sorted(known)
    if found.p50_low is not None:
        assert found.minimum <= found.p50_low <= found.p50 <= found.p50_high <= found.maximum
    assert found.minimum <= found.mean * (1 + 1e-12) and found.mean <= found.maximum * (1 + 1e-12)
    assert 0 <= found.outliers <= found.repeats / 2
