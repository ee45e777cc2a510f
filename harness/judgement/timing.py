"""Statistics of repeated times: pure functions over seconds, no clock and no device.

Times of one call after the other depend on each other: a slow second meets many calls.  Intervals
that take them for independent are too narrow, so both intervals here account for it:

* Median: the distribution-free interval of order statistics (the k-th smallest and the k-th
  greatest value, k from the binomial distribution with p = 1/2), its distance from the middle rank
  widened by the square root of `dependence`.
* Mean: batch means.  Consecutive calls are joined to at most ten groups; Student's t interval of
  the groups' means, which hardly depend on each other (Law, Simulation Modeling and Analysis).

The ratio of two medians has the interval of Zou and Donner (MOVER; Statistics in Medicine 27,
2008) on the logarithms, which needs the two intervals alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
_GROUPS = 10
_FENCE = 1.5  # interquartile ranges beyond the quartiles (Tukey)

Times = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Summary:
    """Repeated times of one thing, in seconds.

    `mean_low` to `mean_high`, `p50_low` to `p50_high`: 95 % intervals; None where there are too few
    repeats for one.  p90, p95 and p99 are None below 10, 20 and 100 repeats: fewer hold no value
    beyond them.  `outliers`: values beyond Tukey's fences, 1.5 interquartile ranges outside the
    quartiles; they are counted, and stay in every other number.  `dependence`: variance of the
    median over what independent calls would have; 1 for independent ones.
    """

    repeats: int
    mean: float
    mean_low: float | None
    mean_high: float | None
    p50: float
    p50_low: float | None
    p50_high: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    minimum: float
    maximum: float
    outliers: int
    dependence: float

    @property
    def precision(self) -> float:
        """Half width of the median's 95 % interval over the median; infinite without interval."""
        if self.p50_low is None or self.p50_high is None or self.p50 <= 0:
            return math.inf
        return (self.p50_high - self.p50_low) / 2 / self.p50


@dataclasses.dataclass(frozen=True)
class Ratio:
    """A ratio of two medians with its 95 % interval."""

    value: float
    low: float
    high: float


def summarise(seconds: Sequence[float]) -> Summary:
    """Summarise times in the order in which they were measured.

    Raises ValueError when there is none, or one that is negative or not finite.
    """
    times = np.asarray(seconds, np.float64)
    if times.size == 0 or not np.isfinite(times).all() or (times < 0).any():
        raise ValueError("times must be finite and not negative, and there must be one")
    p50_low, p50_high = median_interval(times) or (None, None)
    mean_low, mean_high = mean_interval(times) or (None, None)
    return Summary(
        repeats=times.size,
        mean=float(times.mean()),
        mean_low=mean_low,
        mean_high=mean_high,
        p50=float(np.median(times)),
        p50_low=p50_low,
        p50_high=p50_high,
        p90=percentile(times, 90),
        p95=percentile(times, 95),
        p99=percentile(times, 99),
        minimum=float(times.min()),
        maximum=float(times.max()),
        outliers=outliers(times),
        dependence=dependence(times),
    )


def needed(percent: int) -> int:
    """Repeats without which a percentile is no more than the greatest value."""
    return math.ceil(100 / (100 - percent))


def percentile(times: Times, percent: int) -> float | None:
    """The percentile, linear between neighbours; None for too few values."""
    return float(np.percentile(times, percent)) if times.size >= needed(percent) else None


def outliers(times: Times) -> int:
    """How many values lie beyond Tukey's fences."""
    low, high = np.percentile(times, (25, 75))
    reach = _FENCE * (high - low)
    return int(((times < low - reach) | (times > high + reach)).sum())


def dependence(times: Times) -> float:
    """How much serial dependence widens the variance of the median; at least 1.

    The median's variance depends on the signs of the deviations from it: 1 plus twice the sum of
    their autocorrelations, up to the first lag where it is not positive, at most a quarter of
    the series.  Slow drift counts, a single outlier does not.
    """
    signs = np.sign(times - np.median(times))
    signs -= signs.mean()
    power = float(signs @ signs)
    total = 1.0
    if power <= 0:
        return total
    for lag in range(1, times.size // 4 + 1):
        correlation = float(signs[lag:] @ signs[:-lag]) / power
        if correlation <= 0:
            break
        total += 2 * correlation
    return total


def median_interval(times: Times) -> tuple[float, float] | None:
    """95 % interval of the median; None where the values are too few to hold one."""
    from scipy.special import bdtr

    count = times.size
    ranks = np.arange(count)
    # k values lie below the median with a probability of at most 2.5 %.
    below = int((bdtr(ranks, count, 0.5) <= (1 - CONFIDENCE) / 2).sum())
    if below == 0:
        return None
    rank = math.floor(count / 2 - (count / 2 - (below - 1)) * math.sqrt(dependence(times)))
    if rank < 0:
        return None
    ordered = np.sort(times)
    return float(ordered[rank]), float(ordered[count - 1 - rank])


def mean_interval(times: Times) -> tuple[float, float] | None:
    """95 % interval of the mean by batch means; None below three values."""
    from scipy.special import stdtrit

    if times.size < 3:
        return None
    groups = np.array([part.mean() for part in np.array_split(times, min(_GROUPS, times.size))])
    error = float(groups.std(ddof=1)) / math.sqrt(groups.size)
    reach = float(stdtrit(groups.size - 1, (1 + CONFIDENCE) / 2)) * error
    return float(times.mean()) - reach, float(times.mean()) + reach


def stable(before: Sequence[float], after: Sequence[float], within: float) -> bool:
    """Whether the medians of two windows differ by at most `within`, a share of the lesser."""
    first, second = float(np.median(before)), float(np.median(after))
    return abs(first - second) <= within * min(first, second)


def ratio(above: Summary, below: Summary) -> Ratio | None:
    """Median of `above` over median of `below`; None where one of them has no interval."""
    if not (above.p50_low and above.p50_high and below.p50_low and below.p50_high):
        return None
    value = above.p50 / below.p50
    down = math.hypot(math.log(above.p50 / above.p50_low), math.log(below.p50_high / below.p50))
    up = math.hypot(math.log(above.p50_high / above.p50), math.log(below.p50 / below.p50_low))
    return Ratio(value, value * math.exp(-down), value * math.exp(up))
