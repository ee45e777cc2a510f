"""Confidence intervals of ratios of positive samples, on the scale of their logarithms.

Paired: Student's t of the logarithms' differences.  Unpaired: Welch's (Biometrika 34, 1947), which
needs no equal variances.  An interval that holds 1 is no change.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from harness.judgement.metrics import Array

_CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Interval:
    """A ratio new / old with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    @property
    def holds_one(self) -> bool:
        """Whether no change is among what the interval allows."""
        return not (self.low > 1 or self.high < 1)


def paired_interval(old: Sequence[float], new: Sequence[float]) -> Interval | None:
    """Geometric mean of new / old with its paired t interval; None without two positive pairs.

    `old`, `new`: one number an image, in the same order.
    """
    if len(old) != len(new) or len(old) < 2:
        return None
    pairs = np.array([old, new], np.float64)
    if not np.all(np.isfinite(pairs) & (pairs > 0)):
        return None
    from scipy.stats import ttest_rel  # here: it would take a good part of every start

    logs = np.log(pairs)
    return _interval(ttest_rel, logs[1], logs[0])


def welch_interval(old: Sequence[float], new: Sequence[float]) -> Interval | None:
    """Ratio of the geometric means of two samples, new / old, with Welch's interval.

    None when a sample has fewer than two values, or one that is not positive.
    """
    if min(len(old), len(new)) < 2 or min(*old, *new) <= 0:
        return None
    from scipy.stats import ttest_ind

    logs = [np.log(np.array(sample, np.float64)) for sample in (old, new)]
    return _interval(functools.partial(ttest_ind, equal_var=False), logs[1], logs[0])


def _interval(test: Callable[..., Any], new: Array, old: Array) -> Interval:
    """The interval of a difference of means of logarithms, by a test of SciPy's."""
    mean = float(np.mean(new) - np.mean(old))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # samples without any spread
        found = test(new, old).confidence_interval(_CONFIDENCE)
    # Without any spread the interval is the mean itself, which the test leaves undefined.
    bounds = (mean if math.isnan(bound) else float(bound) for bound in (found.low, found.high))
    # Times that differ a thousandfold by chance give bounds that exp cannot hold.
    low, high = (math.exp(min(max(bound, -700.0), 700.0)) for bound in bounds)
    return Interval(math.exp(mean), low, high)
