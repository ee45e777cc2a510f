"""Derives the coefficients of the emulator's functions of the profile `cann`, and prints them.

    python -m benchmarks.fits

The forms are published (docs/emulated-npu.md); the coefficients are fitted here.  Method: linear
least squares on a dense grid, its weights multiplied by the error again and again (Lawson 1961), so
that the greatest error becomes small; a rational function by the same with its denominator of the
step before as a further weight (Sanathanan and Koerner 1963).  Errors are those of the function's
result: absolute for gelu, relative for tanh and erf.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy import special

Values = npt.NDArray[np.float64]

GELU_CAP, TANH_SWITCH, ERF_CAP = 5.75, 0.55, 3.92  # where the forms end
_POINTS = 4000


def _powers(x: Values, exponents: range) -> Values:
    """Columns of (x / its greatest)^exponent."""
    return np.stack([(x / x[-1]) ** power for power in exponents], axis=1)


def _least(columns: Values, wanted: Values, weight: Values) -> Values:
    found: Values = np.linalg.lstsq(columns * weight[:, None], wanted * weight, rcond=None)[0]
    return found


def gelu() -> Values:
    """7 coefficients of the odd polynomial p in x / (1 + exp(p(x))) for x Phi(x), in rising order.

    p is log(Phi(-x) / Phi(x)); an error of p changes the result by x s (1 - s) times as much.
    """
    x = np.linspace(1e-3, GELU_CAP, _POINTS)
    wanted = special.log_ndtr(-x) - special.log_ndtr(x)
    share = special.expit(-wanted)
    exponents = range(1, 14, 2)
    found = _minimax(_powers(x, exponents), wanted, x * share * (1 - share))
    return found / GELU_CAP ** np.array(exponents)


def tanh() -> Values:
    """4 coefficients c of tanh(x) = x + x (c1 x^2 + ... + c4 x^8) up to the switch."""
    x = np.linspace(1e-4, TANH_SWITCH, _POINTS)
    wanted = np.tanh(x) / x
    exponents = range(2, 9, 2)
    found = _minimax(_powers(x, exponents), wanted - 1, 1 / wanted)
    return found / TANH_SWITCH ** np.array(exponents)


def erf() -> tuple[Values, Values]:
    """Numerator (6) and denominator (6, the first is 1) of erf(x) / x in x^2, in rising order."""
    x = np.linspace(1e-3, ERF_CAP, _POINTS)
    wanted = special.erf(x) / x
    exponents = range(0, 11, 2)
    above, below = _powers(x, exponents), _powers(x, exponents)[:, 1:]
    denominator, lawson = np.ones_like(x), np.full_like(x, 1 / len(x))
    for _ in range(60):
        columns = np.concatenate([above, -wanted[:, None] * below], axis=1)
        found = _least(columns, wanted, np.sqrt(lawson) / (denominator * wanted))
        denominator = 1 + below @ found[6:]
        error = np.abs(above @ found[:6] / denominator / wanted - 1)
        lawson = lawson * error / error.max()
        lawson /= lawson.sum()
    scale = ERF_CAP ** np.array(exponents)
    return found[:6] / scale, np.concatenate([[1.0], found[6:]]) / scale


def _minimax(columns: Values, wanted: Values, weight: Values) -> Values:
    lawson = np.full_like(wanted, 1 / len(wanted))
    for _ in range(300):
        found = _least(columns, wanted, np.sqrt(lawson) * weight)
        lawson = lawson * np.abs(columns @ found - wanted) * weight
        lawson /= lawson.sum()
    return found


def coefficients() -> Mapping[str, Values]:
    """All of them, float64, in rising order."""
    above, below = erf()
    return {"gelu": gelu(), "tanh": tanh(), "erf above": above, "erf below": below}


if __name__ == "__main__":
    for name, values in coefficients().items():
        print(name, *(f"{np.float32(value)!s}f" for value in values))
