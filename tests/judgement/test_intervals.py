import numpy as np
import pytest
import scipy.stats

from harness.judgement.intervals import Interval, paired_interval, welch_interval


def test_intervals_are_those_of_scipy():
    rng = np.random.default_rng(0)
    old, new = rng.lognormal(0, 0.1, 6), rng.lognormal(0.3, 0.1, 6)
    logs = np.log(new / old)
    wanted = np.exp(scipy.stats.t.interval(0.95, 5, logs.mean(), scipy.stats.sem(logs)))
    found = paired_interval(old, new)
    assert (found.low, found.high) == pytest.approx(tuple(wanted))
    welch = scipy.stats.ttest_ind(np.log(new), np.log(old[:4]), equal_var=False)
    wanted = np.exp(welch.confidence_interval(0.95))
    found = welch_interval(old[:4], new)
    assert (found.low, found.high) == pytest.approx(tuple(wanted))


def test_intervals_cover_their_truth():
    rng = np.random.default_rng(1)
    found = [
        welch_interval(rng.lognormal(0, 0.05, 3), rng.lognormal(0, 0.2, 5)) for _ in range(500)
    ]
    assert 0.92 < np.mean([interval.holds_one for interval in found]) < 0.99


@pytest.mark.parametrize(("old", "new"), [([1.0], [1.0]), ([1, 0], [1, 1]), ([1, 2, 3], [1, 2])])
def test_no_interval_without_pairs_of_positive_numbers(old, new):
    assert paired_interval(old, new) is None


def test_equal_times_have_a_narrow_interval():
    assert welch_interval([2.0, 2.0], [1.0, 1.0]) == Interval(0.5, 0.5, 0.5)
