"""Formulas only: NumPy arrays in, numbers out; no torch, no limits, no verdicts.

All arithmetic is done in float64, whatever the dtype of the arguments, but for large activations
(`rmse_in_pieces`, and `own_error.py`).  Non-finite inputs give
non-finite results: callers test finiteness first (`count_nonfinite`).
"""

from __future__ import annotations

import dataclasses
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


@dataclasses.dataclass(frozen=True)
class PairedSample:
    """Some values of an output on both sides, in its unit: to look at, not to calculate with.

    `reference`: five significant digits; `difference`: candidate - reference, three; `total`: how
    many values they were taken from.
    """

    reference: tuple[float, ...]
    difference: tuple[float, ...]
    total: int


def paired_sample(reference: Array, candidate: Array) -> PairedSample:
    """Take at most SAMPLE_SIZE pairs of two arrays [...] of the same shape.

    They lie evenly over the arrays, and the SAMPLE_WORST greatest differences are among them; the
    same arrays always give the same pairs.
    """
    a, b = (side.ravel() for side in _pair(reference, candidate))
    difference = b - a
    chosen = np.arange(a.size)
    if a.size > SAMPLE_SIZE:
        even = np.linspace(0, a.size - 1, SAMPLE_SIZE - SAMPLE_WORST).round().astype(np.int64)
        size = np.abs(difference)
        # No sort: that would take longer than all metrics together.
        least = np.partition(size, -SAMPLE_WORST)[-SAMPLE_WORST]
        greater, equal = np.flatnonzero(size > least), np.flatnonzero(size == least)
        chosen = np.unique(np.concatenate([even, greater, equal[: SAMPLE_WORST - greater.size]]))
    return PairedSample(
        reference=tuple(float(f"{value:.5g}") for value in a[chosen]),
        difference=tuple(float(f"{value:.3g}") for value in difference[chosen]),
        total=a.size,
    )


def count_nonfinite(values: Array) -> int:
    """Number of NaN or infinite elements."""
    return values.size - int(np.count_nonzero(np.isfinite(values)))


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
