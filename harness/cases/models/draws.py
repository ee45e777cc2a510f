"""Random numbers and roundings that come out alike on every machine.

Numbers are made of the raw words of NumPy's Philox, a counter-based generator whose stream NumPy
promises to keep (unlike that of its distributions), by integer arithmetic; each parameter has a
stream of its own, keyed by the seed and the parameter's name, so that neither the order of
drawing nor another parameter's shape matters.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]
    Array = NDArray[np.float64]
else:
    Integers = Array = Any

# Standard deviation of a sum of four uniform numbers 0 .. 2^16 - 1: each has (2^32 - 1) / 12.
NORMAL_STD = math.sqrt((2**32 - 1) / 3)
_CENTRE = 2 * (2**16 - 1)  # mean of that sum


def _words(seed: int, name: str, count: int) -> NDArray[np.uint64]:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    words = np.random.Philox(key=int.from_bytes(digest[:16], "little")).random_raw(count)
    return np.asarray(words, np.uint64)


def normal_integers(seed: int, name: str, count: int) -> Integers:
    """Nearly normal integers [count]: mean 0, standard deviation NORMAL_STD, at most 3.46 of it.

    Sums of four uniform 16-bit numbers (Irwin and Hall; excess kurtosis -0.3).
    """
    words = _words(seed, name, count)
    total = np.full(count, -_CENTRE, np.int64)
    for shift in (0, 16, 32, 48):
        total += ((words >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.int64)
    return total


def normal(seed: int, name: str, count: int, std: float) -> Array:
    """Nearly normal numbers [count] with mean 0."""
    return np.asarray(normal_integers(seed, name, count) * (std / NORMAL_STD), np.float64)


def uniform(seed: int, name: str, count: int, low: float, high: float) -> Array:
    """Uniform numbers [count], of 24 random bits each."""
    fraction = (_words(seed, name, count) >> np.uint64(40)).astype(np.float64) / 2**24
    return low + (high - low) * fraction


def centred_rows(drawn: Integers) -> Array:
    """Integers [rows, columns] less the mean of their row; the sum is exact, in whatever order."""
    means = drawn.sum(axis=1, keepdims=True) / drawn.shape[1]
    return np.asarray(drawn - means)


def coarse(value: float, bits: int) -> float:
    """The nearest number of `bits` mantissa bits; 0 and what is not finite as they are."""
    if not math.isfinite(value) or value == 0:
        return value
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(math.ldexp(mantissa, bits)), exponent - bits)


def on_grid(values: Array, unit: float, bits: int) -> Array:
    """Values rounded to multiples of 2^-bits of the power of two that is at most `unit` > 0."""
    step = math.ldexp(1.0, math.frexp(unit)[1] - 1 - bits)
    return np.asarray(np.rint(values / step) * step)
