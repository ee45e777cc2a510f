"""Formulas only: NumPy arrays in, numbers out; no torch, no limits, no verdicts.

All arithmetic is done in float64, whatever the dtype of the arguments, but for large activations
(`own_error`, `rmse_in_pieces`).  Non-finite inputs give
non-finite results: callers test finiteness first (`count_nonfinite`).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.special

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

# Elements of an activation taken at a time: few enough for a processor's cache.
_PIECE = 1 << 18


def softmax(logits: Array) -> Float64:
    """Softmax over the last axis: exp(x_i - m) / sum_j exp(x_j - m), m = max(x).

    `logits`: float [..., C].  Returns float64 of the same shape.
    """
    result: Float64 = scipy.special.softmax(np.asarray(logits, np.float64), axis=-1)
    return result


def is_distribution(outputs: Array) -> bool:
    """Whether every row of `outputs` [N, C] is a probability distribution already.

    True when all values are in [0, 1] and every row sums to 1 within 0.1 % (float16 rounding of
    1000 probabilities stays below that).
    """
    values = np.asarray(outputs, np.float64)
    return bool(
        values.shape[-1] > 1
        and np.all((values >= 0) & (values <= 1))
        and np.all(np.abs(values.sum(axis=-1) - 1) < 1e-3)
    )


def probabilities(outputs: Array) -> Float64:
    """Class probabilities, float64 [N, C]: the softmax of logits.

    A model that ends in a softmax gives probabilities already; a second softmax would flatten
    them until all images look alike, so they are taken as they are.
    """
    values = np.asarray(outputs, np.float64)
    return values if is_distribution(values) else softmax(values)


def cosine_similarity(a: Array, b: Array) -> Float64:
    """Cosine of each row pair: <a, b> / (|a| |b|), in [-1, 1].

    `a`, `b`: float [N, D].  Returns float64 [N].  A zero row has no direction: its cosine is NaN,
    so that two all-zero outputs never count as equal by this measure.

    Raises ValueError when the shapes differ or are not two-dimensional.
    """
    a, b = _matrix_pair(a, b)
    scale = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.clip(np.sum(a * b, axis=1) / scale, -1.0, 1.0), np.float64)


def mean_absolute_error(a: Array, b: Array) -> float:
    """MAE = mean |a - b| over all elements, in the unit of the arguments.

    Raises ValueError when the shapes differ or there are no elements.
    """
    a, b = _pair(a, b)
    return float(np.mean(np.abs(a - b)))


def error_rate_percent(mean_cosine: float) -> float:
    """Documented error rate: (1 - cosine similarity) x 100, in percent."""
    return (1.0 - mean_cosine) * 100.0


@dataclasses.dataclass(frozen=True)
class WorstElement:
    """The element with the greatest absolute difference."""

    difference: float
    index: tuple[int, ...]
    reference: float
    candidate: float


def max_absolute_error(reference: Array, candidate: Array) -> WorstElement:
    """Greatest |candidate - reference| with its index and both values.

    Raises ValueError when the shapes differ or there are no elements.
    """
    ref, cand = _pair(reference, candidate)
    difference = np.abs(cand - ref)
    flat = int(np.argmax(difference))
    index = tuple(int(i) for i in np.unravel_index(flat, difference.shape))
    return WorstElement(float(difference[index]), index, float(ref[index]), float(cand[index]))


def rmse(reference: Array, candidate: Array) -> float:
    """Root of the mean squared difference over all elements, in the unit of the arguments."""
    ref, cand = _pair(reference, candidate)
    return float(np.sqrt(np.mean(np.square(cand - ref))))


def rmse_in_pieces(reference: Array, candidate: Array) -> float:
    """As `rmse`, of large float32 arrays: in their own precision, without copies of their size."""
    ref, cand = reference.reshape(-1), candidate.reshape(-1)
    total = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, ref.size, _PIECE):
            difference = cand[start : start + _PIECE] - ref[start : start + _PIECE]
            total += float(np.dot(difference, difference))
    # Squares in float32 are good enough unless they leave its range.
    return rmse(reference, candidate) if math.isinf(total) else math.sqrt(total / ref.size)


def spread(reference: Array) -> float:
    """How much an output differs between images: the signal that an error is measured against.

    Standard deviation of the output after subtracting each element's mean over the images (a
    constant offset carries no information about an image).  `reference`: float [N, ...].  With
    one image there is no mean to subtract: the deviation from that image's own mean over its
    elements is taken instead.
    """
    ref = np.asarray(reference, np.float64).reshape(len(reference), -1)
    axis = 0 if len(ref) > 1 else 1
    return float(np.sqrt(np.mean(np.square(ref - ref.mean(axis=axis, keepdims=True)))))


def nrmse(reference: Array, candidate: Array) -> float:
    """rmse(reference, candidate) / spread(reference): error in units of the signal.

    Infinite when the reference has no spread but the candidate differs; NaN when neither does.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.float64(rmse(reference, candidate)) / np.float64(spread(reference)))


def norm_ratio(reference: Array, candidate: Array) -> float:
    """|candidate| / |reference| over all elements: shows a scaling that no cosine can see."""
    ref, cand = _pair(reference, candidate)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.linalg.norm(cand) / np.float64(np.linalg.norm(ref)))


def top1(scores: Array) -> npt.NDArray[np.int64]:
    """Index of the greatest score of each row; `scores`: float [N, C].  Returns int64 [N].

    NumPy's argmax returns the position of a NaN if there is one: test finiteness first.
    """
    return np.asarray(np.argmax(np.asarray(scores, np.float64), axis=-1), np.int64)


def top1_margin(scores: Array) -> Float64:
    """Greatest minus second greatest score of each row, in the scores' unit; float64 [N].

    `scores`: float [N, C].  With a single class there is no second: the margin is infinite.
    """
    scores = np.asarray(scores, np.float64)
    if scores.shape[-1] < 2:
        return np.full(len(scores), np.inf)
    two = np.partition(scores, -2, axis=-1)[:, -2:]
    return np.asarray(two[:, 1] - two[:, 0], np.float64)


def count_nonfinite(values: Array) -> int:
    """Number of NaN or infinite elements."""
    return int(np.count_nonzero(~np.isfinite(np.asarray(values, np.float64))))


@dataclasses.dataclass(frozen=True)
class Discrimination:
    """Do the images lead to different outputs at all?  If not, no cosine can fail.

    `max_cosine`: the greatest softmax cosine between two different images (NaN for one image);
    `distinct_top1`: number of different Top-1 classes; `logit_spread`: see `spread`;
    `min_margin`: smallest Top-1 margin over the images, in logits;
    `max_probability`: greatest softmax probability of any image.
    """

    images: int
    max_cosine: float
    distinct_top1: int
    logit_spread: float
    min_margin: float
    max_probability: float


def discrimination(logits: Array) -> Discrimination:
    """Measure how well the reference tells its images apart; `logits`: float [N, C]."""
    logits = np.asarray(logits, np.float64)
    scores = probabilities(logits)
    first, second = np.triu_indices(len(logits), k=1)
    cosines = cosine_similarity(scores[first], scores[second])
    return Discrimination(
        images=len(logits),
        max_cosine=float(np.max(cosines)) if cosines.size else float("nan"),
        distinct_top1=len(set(top1(logits).tolist())),
        logit_spread=spread(logits),
        min_margin=float(np.min(top1_margin(logits))),
        max_probability=float(np.max(scores)),
    )


@dataclasses.dataclass(frozen=True)
class Rounding:
    """Rounding that a result has to be allowed, whatever was measured.

    `unit`: unit roundoff of the format that the result is stored in; `inner`: relative error (a
    bound of the same kind) of the arithmetic before that; `smallest`: the format's smallest
    positive number, below which rounding is absolute.
    """

    unit: float
    inner: float = 0.0
    smallest: float = 0.0

    def mean_square(self, own: Any, whole: Any) -> Any:
        """Mean squared rounding error of values with mean square `own`.

        Rounding to nearest errs by at most unit x |x|; an error uniform within that has the mean
        square (unit x)^2 / 3.  Hence a correctly rounded result exceeds this value by a factor
        of at most 3, and its root by sqrt(3), whatever the values are; a faithfully rounded one
        (either neighbour) has at most twice that root.  The inner error of a part of a result
        goes by the mean square of the `whole` where that is greater: a part that is small is so
        because what was summed up cancelled, not because it was small.
        """
        inner = self.inner**2 * np.maximum(own, whole)
        return (self.unit**2 * own + inner + (self.smallest / 2) ** 2) / 3


@dataclasses.dataclass(frozen=True)
class OwnError:
    """Error of a result against an exact one, in units of what the arithmetic costs.

    `ratio` = rmse / budget_rmse; `worst_slice_ratio`: the greatest such ratio of any slice, which
    is `worst_slice` = (dimension, index), None when the result has fewer than two dimensions.
    `nonfinite`: elements that are NaN or infinite where exact and budget results are finite; they
    are left out of the other numbers.
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


def own_error(oracle: Array, budget: Array, candidate: Array, rounding: Rounding) -> OwnError:
    """Compare a candidate with an exact result, against a budget result of the same exact one.

    `oracle`, `budget`, `candidate`: float of one shape.  With e, b, o the mean squares of
    candidate - oracle, budget - oracle and oracle:

        ratio = sqrt(e / max(b, r(o, o))),   r = rounding.mean_square

    and for a slice of m elements, with its own mean squares e_s, b_s, o_s,

        ratio_s = sqrt(e_s / max((m b_s + P max(b, r(o, o))) / (m + P), r(o_s, o)))

    with P = SLICE_PRIOR.  Slices are taken along every dimension: channels, batch items, rows,
    tokens.  A result that differs where nothing is to be rounded (all zero, or integers with
    `Rounding(0)`) has an infinite ratio.

    Computes a piece at a time, in the arguments' precision, which is good for five digits, so that
    large results cost little time and memory.  Raises ValueError when the shapes differ or there
    are no elements.
    """
    sums = _Sums(oracle, budget, candidate)
    count = max(1, sums.comparable)
    error, cost, power = (total / count for total in sums.totals)
    cost = max(cost, float(rounding.mean_square(power, power)))
    ratio = float(_root_ratio(np.float64(error), np.float64(cost)))

    worst, where = ratio, None
    for axis, size in enumerate(oracle.shape if oracle.ndim > 1 else ()):
        error_s, cost_s, power_s = (table[axis] for table in sums.by_axis)
        elements = np.maximum(1, sums.counts[axis])
        drawn = (cost_s + SLICE_PRIOR * cost) / (elements + SLICE_PRIOR)
        allowed_s = np.maximum(drawn, rounding.mean_square(power_s / elements, power))
        ratios = _root_ratio(error_s / elements, allowed_s)
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


class _Sums:
    """Sums of squares of an operator's errors, of all elements and of the slices of every axis.

    `totals`, `by_axis`: of candidate - oracle, budget - oracle and oracle, where all three are
    finite; `counts`: for every axis the number of such elements in each slice; `comparable`: of
    all.  `nonfinite`: elements where only the candidate is not finite.
    """

    def __init__(self, oracle: Array, budget: Array, candidate: Array) -> None:
        for other in (budget, candidate):
            if other.shape != oracle.shape:
                raise ValueError(f"shapes differ: {oracle.shape} and {other.shape}")
        if oracle.size == 0:
            raise ValueError("no elements to compare")
        shape = oracle.shape or (1,)
        self.totals = [0.0, 0.0, 0.0]
        self.by_axis = [[np.zeros(size) for size in shape] for _ in self.totals]
        self.counts = [np.zeros(size) for size in shape]
        self.comparable = self.nonfinite = 0
        along = next((axis for axis, size in enumerate(shape) if size > 1), 0)
        step = max(1, _PIECE * shape[along] // oracle.size)
        arrays = [oracle.reshape(shape), candidate.reshape(shape)]
        if budget is not oracle:
            arrays.append(budget.reshape(shape))
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

    @staticmethod
    def _tables(arrays: list[Array]) -> list[list[Float64]]:
        exact, got, *budget = arrays
        cost = (
            _square_sums(np.subtract(budget[0], exact))
            if budget
            else [np.zeros(size) for size in exact.shape]
        )
        return [_square_sums(np.subtract(got, exact)), cost, _square_sums(exact)]


def _square_sums(values: Array) -> list[Float64]:
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


def _pair(a: Array, b: Array) -> tuple[Float64, Float64]:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {a.shape} and {b.shape}")
    if a.size == 0:
        raise ValueError("no elements to compare")
    return a, b


def _matrix_pair(a: Array, b: Array) -> tuple[Float64, Float64]:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"two matrices of one shape are needed, not {a.shape} and {b.shape}")
    return a, b
