"""Confidence intervals of ratios of positive samples, on the scale of their logarithms.

Paired: Student's t of the logarithms' differences.  Unpaired: Welch's (Biometrika 34, 1947), which
needs no equal variances.  An interval that holds 1 is no change.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

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
    logs = np.log(pairs[1]) - np.log(pairs[0])
    error = float(np.std(logs, ddof=1)) / math.sqrt(len(logs))
    return _interval(float(np.mean(logs)), error, len(logs) - 1.0)


def welch_interval(old: Sequence[float], new: Sequence[float]) -> Interval | None:
    """Ratio of the geometric means of two samples, new / old, with Welch's interval.

    None when a sample has fewer than two values, or one that is not positive.
    """
    if min(len(old), len(new)) < 2 or min(*old, *new) <= 0:
        return None
    logs = [np.log(np.array(sample, np.float64)) for sample in (old, new)]
    parts = [float(np.var(sample, ddof=1)) / len(sample) for sample in logs]
    variance = sum(parts)
    freedom = 1.0
    if variance > 0:  # Welch and Satterthwaite's degrees of freedom
        freedom = variance**2 / sum(
            part**2 / (len(sample) - 1) for part, sample in zip(parts, logs, strict=True)
        )
    return _interval(float(np.mean(logs[1]) - np.mean(logs[0])), math.sqrt(variance), freedom)


def _interval(mean: float, error: float, freedom: float) -> Interval:
    import scipy.special  # here: it would take a good part of every start

    half = float(scipy.special.stdtrit(freedom, 0.5 + _CONFIDENCE / 2)) * error
    # Times that differ a thousandfold by chance give bounds that exp cannot hold.
    low, high = (math.exp(min(max(value, -700.0), 700.0)) for value in (mean - half, mean + half))
    return Interval(math.exp(mean), low, high)
