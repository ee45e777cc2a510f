"""Formulas only: NumPy arrays in, numbers out; no torch, no limits, no verdicts.

All arithmetic is done in float64, whatever the dtype of the arguments, but for large activations
(`rmse_in_pieces`, and `operator_error.py`).  Non-finite inputs give
non-finite results: callers test finiteness first (`count_nonfinite`).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

# Elements of an activation taken at a time: few enough for a processor's cache.
PIECE = 1 << 18
# Pairs of values that a record keeps of an output, and how many of them are the worst ones.
SAMPLE_SIZE, SAMPLE_WORST = 150, 15


def softmax(logits: Array) -> Float64:
    """Softmax over the last axis: exp(x_i - m) / sum_j exp(x_j - m), m = max(x).

    `logits`: float [..., C].  Returns float64 of the same shape.
    """
    values = np.asarray(logits, np.float64)
    powers = np.exp(values - np.max(values, axis=-1, keepdims=True))
    return np.asarray(powers / np.sum(powers, axis=-1, keepdims=True), np.float64)


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
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"two matrices of one shape are needed, not {a.shape} and {b.shape}")
    return Pair(a, b).cosines


def row_products(a: Float64, b: Float64) -> Float64:
    """<a_i, b_i> of each row pair, float64 [N, D] -> [N], without arrays of the arguments' size.

    Without BLAS: the sums are the same on any number of cores, and none of its threads goes on
    waiting at full speed for more of them.
    """
    return np.asarray(np.einsum("ij,ij->i", a, b), np.float64)


def mean_absolute_error(a: Array, b: Array) -> float:
    """MAE = mean |a - b| over all elements, in the unit of the arguments.

    Raises ValueError when the shapes differ or there are no elements.
    """
    return Pair.of(a, b).mean_absolute


def error_rate_percent(mean_cosine: float) -> float:
    """Documented error rate: (1 - cosine similarity) x 100, in percent."""
    return (1.0 - mean_cosine) * 100.0


@dataclasses.dataclass(frozen=True)
class WorstElement:
    """The greatest absolute difference and where it is."""

    difference: float
    index: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two arrays [...] in float64, and what several formulas need of them, made once."""

    reference: Float64
    candidate: Float64

    @classmethod
    def of(cls, reference: Array, candidate: Array) -> Pair:
        """Raises ValueError when the shapes differ or there are no elements."""
        ref, cand = np.asarray(reference, np.float64), np.asarray(candidate, np.float64)
        if ref.shape != cand.shape:
            raise ValueError(f"shapes differ: {ref.shape} and {cand.shape}")
        if ref.size == 0:
            raise ValueError("no elements to compare")
        return cls(ref, cand)

    @functools.cached_property
    def differences(self) -> Float64:
        """candidate - reference, [...]."""
        return np.asarray(self.candidate - self.reference, np.float64)

    @functools.cached_property
    def sizes(self) -> Float64:
        """Absolute differences, [...]."""
        return np.asarray(np.abs(self.differences), np.float64)

    @property
    def mean_absolute(self) -> float:
        """As `mean_absolute_error`."""
        return float(np.mean(self.sizes))

    @functools.cached_property
    def rmse(self) -> float:
        """As the function `rmse`."""
        return root_mean_square(self.differences)

    @property
    def worst(self) -> WorstElement:
        """The greatest absolute difference; the first of several."""
        flat = int(np.argmax(self.sizes))
        index = tuple(int(i) for i in np.unravel_index(flat, self.sizes.shape))
        return WorstElement(float(self.sizes[index]), index)

    @property
    def rows(self) -> list[Float64]:
        """Both sides as [N, D]."""
        length = math.prod(self.reference.shape[1:])  # -1 is refused where there are no rows
        return [side.reshape(len(side), length) for side in (self.reference, self.candidate)]

    @functools.cached_property
    def _squares(self) -> list[Float64]:
        """|x_i|^2 of each row x_i of both sides, [N]."""
        return [row_products(rows, rows) for rows in self.rows]

    @property
    def norms(self) -> list[Float64]:
        """|x_i| of each row x_i of both sides, [N]."""
        return [np.sqrt(squares) for squares in self._squares]

    @functools.cached_property
    def cosines(self) -> Float64:
        """As `cosine_similarity`, of rows [N] that are flattened first."""
        scale = np.prod(self.norms, axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            cosines = row_products(*self.rows) / scale
        return np.asarray(np.clip(cosines, -1.0, 1.0), np.float64)

    @property
    def norm_ratio(self) -> float:
        """|candidate| / |reference| over all elements: shows a scaling that no cosine can see."""
        of_reference, of_candidate = (math.sqrt(rows.sum()) for rows in self._squares)
        return quotient(of_candidate, of_reference)


def cosines_with_zeros(pair: Pair) -> Float64:
    """As `Pair.cosines`; 1 where both rows are zero, which are equal, 0 where one of them is."""
    directed = [np.any(rows, axis=1) for rows in pair.rows]
    one, both = np.logical_xor(*directed), ~np.logical_or(*directed)
    return np.asarray(np.where(both, 1.0, np.where(one, 0.0, pair.cosines)), np.float64)


def rmse(reference: Array, candidate: Array) -> float:
    """Root of the mean squared difference over all elements, in the unit of the arguments."""
    return Pair.of(reference, candidate).rmse


def rmse_in_pieces(reference: Array, candidate: Array) -> float:
    """As `rmse`, of large float32 arrays: in their own precision, without copies of their size."""
    ref, cand = reference.reshape(-1), candidate.reshape(-1)
    total = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, ref.size, PIECE):
            difference = cand[start : start + PIECE] - ref[start : start + PIECE]
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
    return root_mean_square(ref - ref.mean(axis=axis, keepdims=True))


def root_mean_square(values: Float64) -> float:
    """Root of the mean square over all elements [...], in their unit."""
    [total] = row_products(*(values.reshape(1, -1),) * 2)
    return math.sqrt(total / values.size)


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


@dataclasses.dataclass(frozen=True)
class PairedSample:
    """Some values of an output on both sides, in its unit: to look at, not to calculate with.

    `reference`: five significant digits; `difference`: candidate - reference, three; `total`: how
    many values they were taken from.
    """

    reference: tuple[float, ...]
    difference: tuple[float, ...]
    total: int


def paired_sample(pair: Pair) -> PairedSample:
    """Take at most SAMPLE_SIZE pairs of two arrays.

    They lie evenly over the arrays, and the SAMPLE_WORST greatest differences are among them; the
    same arrays always give the same pairs.
    """
    reference, difference, size = (
        side.ravel() for side in (pair.reference, pair.differences, pair.sizes)
    )
    if size.size <= SAMPLE_SIZE:
        chosen = np.arange(size.size)
    else:
        even = np.linspace(0, size.size - 1, SAMPLE_SIZE - SAMPLE_WORST).round().astype(np.int64)
        # No sort of all: that would take longer than all metrics together.
        parts = np.maximum.reduceat(size, np.arange(0, size.size, -(-size.size // SAMPLE_SIZE)))
        least = np.sort(parts)[-SAMPLE_WORST]  # so many values at least are as large
        greater = np.flatnonzero(size > least)
        greater = greater[np.argsort(-size[greater], kind="stable")]
        equal = np.flatnonzero(size == least)[:SAMPLE_WORST]
        worst = np.concatenate([greater, equal])[:SAMPLE_WORST]
        chosen = np.unique(np.concatenate([even, worst]))
    return PairedSample(
        reference=tuple(float(f"{value:.5g}") for value in reference[chosen].tolist()),
        difference=tuple(float(f"{value:.3g}") for value in difference[chosen].tolist()),
        total=size.size,
    )


def count_nonfinite(values: Array) -> int:
    """Number of NaN or infinite elements."""
    return values.size - int(np.count_nonzero(np.isfinite(values)))


def quotient(a: float, b: float) -> float:
    """a / b for a, b >= 0; infinite for b = 0, NaN when both are 0.

    With a = rmse and b = spread the nrmse, an error in units of the signal: infinite without a
    signal, and NaN when nothing differs either.
    """
    if b == 0:
        return a * math.inf
    return a / b


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
