"""Error of one operator's result, in units of the rounding that any device has to be allowed."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from harness.judgement.metrics import PIECE, Array, Float64
from harness.judgement.operator_rows import RATIO_LIMIT, SLICE_RATIO_LIMIT

# Chance that one honest result or slice exceeds its limit.  A case has up to 10^6 of them (500
# operators, 2,000 slices each), so that false alarms stay below 10^-4 a case.
FALSE_ALARM = 1e-10


@dataclasses.dataclass(frozen=True)
class Rounding:
    """Rounding that a result has to be allowed at least, whatever was measured.

    `unit`: unit roundoff of the format that the result is stored in; `inner`: relative error (a
    bound of the same kind) of the arithmetic before that; `smallest`: the format's smallest
    positive number, below which rounding is absolute.
    """

    unit: float
    inner: float = 0.0
    smallest: float = 0.0

    def mean_square(self, own: Any, *, inner: bool = True) -> Any:
        """Mean squared rounding error of values with mean square `own`.

        Rounding to nearest errs by at most unit x |x|; an error uniform within that has the mean
        square (unit x)^2 / 3.  Hence a correctly rounded result exceeds this value by a factor
        of at most 3, and its root by sqrt(3), whatever the values are; a faithfully rounded one
        (either neighbour) has at most twice that root.
        """
        relative = self.unit**2 + (self.inner**2 if inner else 0.0)
        return (relative * own + (self.smallest / 2) ** 2) / 3


@dataclasses.dataclass(frozen=True)
class OwnError:
    """Error of a result against an exact one, in units of what the arithmetic costs.

    `ratio` = rmse / budget_rmse; `worst_slice_ratio`: the greatest such ratio of any slice, which
    is `worst_slice` = (dimension, index), None when the result has fewer than two dimensions.
    Those of few elements are divided by `chance`.  `nonfinite`: elements that are NaN or infinite
    where exact and budget results are finite; they are left out of the other numbers.
    """

    rmse: float
    budget_rmse: float
    reference_rms: float
    ratio: float
    worst_slice_ratio: float
    worst_slice: tuple[int, int] | None
    nonfinite: int


# A slice's measured budget is drawn towards the whole result's as if it held this many elements
# more: the error of a few elements says little about what the arithmetic costs there.
SLICE_PRIOR = 16


_MANY = 20  # from here on the quantile is below the square of the least limit


def quantile(elements: Any) -> Any:
    """The greatest rms that `elements` honest errors of rms 1 show, but for FALSE_ALARM.

    Errors of sums are Gaussian, so that the mean square of m of them, in units of its expectation,
    is a chi-square of m degrees over m.
    """
    from scipy.special import chdtri  # here: it would take a good part of every start

    return np.sqrt(chdtri(elements, FALSE_ALARM) / elements)


def chance(elements: Any, limit: float) -> Any:
    """How far beyond `limit` the rms of few honest errors may lie: 1 for many `elements`."""
    if np.min(elements) >= _MANY:
        return 1.0
    return np.maximum(1.0, quantile(elements) / limit)


def own_error(
    oracle: Array,
    budget: Array,
    candidate: Array,
    rounding: Rounding,
    *,
    inner: Array | None = None,
    limits: tuple[float, float] = (RATIO_LIMIT, SLICE_RATIO_LIMIT),
) -> OwnError:
    """Compare a candidate with an exact result, against a budget result of the same exact one.

    `oracle`, `budget`, `candidate`: float of one shape.  `inner`: root mean square of what
    rounding inside the operator may cost each element, of the same shape; None: `rounding.inner`
    times the element, which is the least.  With e, b, a the mean squares of candidate - oracle, of
    budget - oracle and of all allowed rounding,

        ratio = sqrt(e / max(b, a)) / chance(n, limits[0])

    and for a slice of m elements, with its own mean squares e_s, b_s, a_s,

        ratio_s = sqrt(e_s / max((m b_s + P max(b, a)) / (m + P), a_s)) / chance(m, limits[1])

    with P = SLICE_PRIOR.  Slices are taken along every dimension: channels, batch items, rows,
    tokens.  A result that differs where nothing is to be rounded (all zero, or integers with
    `Rounding(0)`) has an infinite ratio.

    Computes a piece at a time, in the arguments' precision, which is good for five digits, so that
    large results cost little time and memory.  Raises ValueError when the shapes differ or there
    are no elements.
    """
    sums = _Sums(oracle, budget, candidate, inner)
    count = max(1, sums.comparable)
    error, cost, power, inside = (total / count for total in sums.totals)

    def allowed(own: Any, inside: Any) -> Any:
        return rounding.mean_square(own, inner=inner is None) + inside

    # Where only moves or integers were to be made, nothing that was measured allows anything.
    cost = max(cost, float(allowed(power, inside))) if rounding.unit else 0.0
    ratio = float(_root_ratio(np.float64(error), np.float64(cost)) / chance(count, limits[0]))

    worst, where = ratio, None
    for axis, size in enumerate(oracle.shape if oracle.ndim > 1 else ()):
        error_s, cost_s, power_s, inside_s = (table[axis] for table in sums.by_axis)
        elements = np.maximum(1, sums.counts[axis])
        drawn = (cost_s + SLICE_PRIOR * cost) / (elements + SLICE_PRIOR)
        allowed_s = np.maximum(drawn, allowed(power_s / elements, inside_s / elements))
        if not rounding.unit:
            allowed_s = np.zeros_like(drawn)
        ratios = _root_ratio(error_s / elements, allowed_s) / chance(elements, limits[1])
        index = int(np.argmax(ratios))
        if size > 1 and (where is None or ratios[index] > worst):
            worst, where = float(ratios[index]), (axis, index)
    return OwnError(
        rmse=float(np.sqrt(error)),
        budget_rmse=float(np.sqrt(cost)),
        reference_rms=float(np.sqrt(power)),
        ratio=ratio,
        worst_slice_ratio=worst,
        worst_slice=where,
        nonfinite=sums.nonfinite,
    )


# To nearest the ratio is at most 1; truncation averages 1.6, and moves every other number.
NEAREST_LIMIT = 1.1
_FREE_STEPS = 4.0  # numbers that chance may move where none is expected


def misrounding(rounded: Array, candidate: Array, inner: Array, rounding: Rounding) -> float:
    """How much oftener than its inner rounding explains a result is not the nearest number.

    For results that are rounded once, to nearest: `rounded`, the exact result so rounded, and the
    `candidate` differ where the error before that rounding (rms `inner`, of the same shape) carries
    it over the middle between two numbers, which are a step of 2 unit 2^floor(log2 |x|) apart: with
    a chance of |error| / step.  In steps, with d their difference and e = 2 inner, since the
    reference that was rounded may err as much as the candidate,

        sqrt(sum d^2 / (sum (e + e^2) + 4))

    It sees errors far below the format's own rounding, which hides them from `OwnError.ratio`.
    """
    whole, power = np.frexp(np.abs(rounded))
    step = np.where(whole > 0, np.ldexp(np.float64(2 * rounding.unit), power - 1), 0.0)
    step = np.maximum(step, rounding.smallest)
    with np.errstate(invalid="ignore", over="ignore"):  # infinite on both sides
        moved = (np.asarray(candidate, np.float64) - rounded) / step
    usable = np.isfinite(moved)
    expected = 2 * np.asarray(inner, np.float64) / step
    allowed = np.sum(np.where(usable, expected + np.square(expected), 0.0)) + _FREE_STEPS
    return float(_root_ratio(np.sum(np.square(np.where(usable, moved, 0.0))), allowed))


_SURE = math.sqrt(2 * math.log(2 / FALSE_ALARM))


def one_sided(
    reference: Array, candidate: Array, free: float, *, limit: float = RATIO_LIMIT
) -> float:
    """How surely the errors of sums lean to one side, in units of which `limit` is too much.

    Rounding to nearest errs to both sides alike.  With d = candidate - reference, of elements whose
    roundings are independent, and any signs s that do not depend on d,

        z = (|sum s d| - free sum |reference|) / sqrt(sum d^2)

    exceeds t with a chance of at most 2 exp(-t^2 / 2), whatever the errors' sizes are (W.
    Hoeffding, Probability inequalities for sums of bounded random variables, 1963, theorem 2, given
    the sizes); the limit is where that is FALSE_ALARM.  Signs are those of the result, for what
    is rounded towards zero, and all alike, for what is rounded down or up.  The reference may be
    rounded itself, to nearest.  `free`: relative error that all elements may share: a store that
    is not to nearest, or one factor.  Elements that are not finite are left out.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        moved = np.subtract(candidate, reference)
        if not moved.any():
            return 0.0
        moved = moved.astype(np.float64)
        scatter = float(np.vdot(moved, moved))
        if not math.isfinite(scatter):
            usable = np.isfinite(moved)
            moved, reference = moved[usable], reference[usable]
            scatter = float(np.vdot(moved, moved)) or 1.0
    leaning = max(abs(float(np.vdot(moved, np.sign(reference)))), abs(float(moved.sum())))
    shared = free * float(np.abs(reference).sum(dtype=np.float64))
    return max(0.0, leaning - shared) / math.sqrt(scatter) * limit / _SURE


class _Sums:
    """Sums of squares of an operator's errors, of all elements and of the slices of every axis.

    `totals`, `by_axis`: of candidate - oracle, budget - oracle, oracle and the inner rounding,
    where all are finite; `counts`: for every axis the number of such elements in each slice;
    `comparable`: of all.  `nonfinite`: elements where only the candidate is not finite.
    """

    def __init__(self, oracle: Array, budget: Array, candidate: Array, inner: Array | None) -> None:
        for other in (budget, candidate, oracle if inner is None else inner):
            if other.shape != oracle.shape:
                raise ValueError(f"shapes differ: {oracle.shape} and {other.shape}")
        if oracle.size == 0:
            raise ValueError("no elements to compare")
        shape = oracle.shape or (1,)
        self.totals = [0.0, 0.0, 0.0, 0.0]
        self.by_axis = [[np.zeros(size) for size in shape] for _ in self.totals]
        self.counts = [np.zeros(size) for size in shape]
        self.comparable = self.nonfinite = 0
        along = next((axis for axis, size in enumerate(shape) if size > 1), 0)
        step = max(1, PIECE * shape[along] // oracle.size)
        arrays = [oracle.reshape(shape), candidate.reshape(shape)]
        self._budget, self._inner = budget is not oracle, inner is not None
        if self._budget:
            arrays.append(budget.reshape(shape))
        if inner is not None:
            arrays.append(inner.reshape(shape))
        for start in range(0, shape[along], step):
            where = slice(start, start + step)
            self._add(along, where, [x[(*(slice(None),) * along, where)] for x in arrays])

    def _add(self, along: int, where: slice, arrays: list[Array]) -> None:
        exact = arrays[0]
        counts = [np.full(size, exact.size / size) for size in exact.shape]
        comparable = exact.size
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            tables = self._tables(arrays)
        # Squares in float32 are good enough unless they leave its range.
        if not all(np.isfinite(table[0]).all() for table in tables) or not tables[2][0].any():
            arrays = [np.asarray(x, np.float64) for x in arrays]
            usable = np.all([np.isfinite(x) for x in (arrays[0], *arrays[2:])], axis=0)
            finite = np.isfinite(arrays[1])
            self.nonfinite += int(np.count_nonzero(usable & ~finite))
            usable &= finite
            comparable = int(np.count_nonzero(usable))
            counts = _slice_sums(usable.astype(np.float64))
            tables = self._tables([np.where(usable, x, 0.0) for x in arrays])
        self.comparable += comparable
        for number, table in enumerate(tables):
            self.totals[number] += float(np.sum(table[0]))
        for mine, found in zip([*self.by_axis, self.counts], [*tables, counts], strict=True):
            for axis, values in enumerate(found):
                mine[axis][where if axis == along else slice(None)] += values

    def _tables(self, arrays: list[Array]) -> list[list[Float64]]:
        exact, got, *more = arrays
        nothing = [np.zeros(size) for size in exact.shape]
        cost = square_sums(np.subtract(more[0], exact)) if self._budget else nothing
        inner = square_sums(more[-1]) if self._inner else nothing
        return [square_sums(np.subtract(got, exact)), cost, square_sums(exact), inner]


def square_sums(values: Array) -> list[Float64]:
    """For every dimension, the sums of squares over all the others; values float32 or float64.

    Halves the dimensions: two passes over the array, however many there are.
    """
    if values.ndim == 1:
        return [np.square(values.astype(np.float64))]
    half = values.ndim // 2
    table = values.reshape(int(np.prod(values.shape[:half])), -1)
    rows = np.einsum("ij,ij->i", table, table).astype(np.float64)
    columns = np.einsum("ij,ij->j", table, table).astype(np.float64)
    return [
        *_slice_sums(rows.reshape(values.shape[:half])),
        *_slice_sums(columns.reshape(values.shape[half:])),
    ]


def _slice_sums(values: Float64) -> list[Float64]:
    """For every dimension, the sums over all the others."""
    axes = range(values.ndim)
    return [values.sum(axis=tuple(other for other in axes if other != axis)) for axis in axes]


def _root_ratio(error: Any, cost: Any) -> Any:
    """sqrt(error / cost): 0 for no error, infinite for an error where none is allowed."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(error > 0, np.sqrt(error / cost), 0.0)
