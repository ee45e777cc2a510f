"""To how many bits a device rounds the factors and the results of its sums, and how.

A product with one, summed up with zeros, gives a factor back as the device rounded it; a sum of
exact products, which needs all bits of float32, gives the result's own rounding.  The only
published way of rounding that agrees with every number is taken, bit by bit.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from harness.execution.imitation import round_mantissa
from harness.execution.probes.summation import Summation
from harness.judgement.arithmetic import FULL_BITS, TIES, Factors
from harness.system.messages import say

_FEWEST_BITS = 3
_RANDOM = 20  # numbers beside the ties
_PIECE = 7  # explicit bits of a factor that every format has


@dataclasses.dataclass(frozen=True)
class Unknown:
    """Another rounding than any that is known here: its greatest relative error."""

    error: float

    def __str__(self) -> str:
        if not math.isfinite(self.error):
            return say("factors.not_finite", "in no way known here (not finite)")
        return say(
            "factors.unknown",
            "in no way known here (relative error up to 2^{power})",
            power=f"{math.log2(self.error):.1f}",
        )


Form = Factors | Unknown


def of_factors(summation: Summation) -> tuple[Form, Form]:
    """How both factors of a product are rounded; `Factors` of the dtype's own bits: not at all."""
    values = _values(summation.explicit_bits)
    spread = torch.zeros(len(values), 1, dtype=torch.float64)
    spread[:, 0] = values
    ones = torch.ones_like(spread)
    sides = ((spread, ones), (ones, spread))
    left, right = (
        _form(summation.of_factors(*side), values, summation.explicit_bits) for side in sides
    )
    return left, right


def of_result(summation: Summation) -> Form:
    """How a sum is rounded that needs all bits of float32, though its factors have seven."""
    values = _values(FULL_BITS)
    whole = torch.ldexp(values.abs(), torch.tensor(FULL_BITS)).long()
    pieces = [_PIECE + 1, _PIECE + 1, _PIECE + 1]  # 24 bits, the leading one included
    terms, below = [], sum(pieces)
    for bits in pieces:
        below -= bits
        digits = (whole >> below) & ((1 << bits) - 1)
        # In a middle range, so that no piece of it is a subnormal number.
        terms.append(torch.ldexp(digits.double(), torch.tensor(below - FULL_BITS + 10)))
    exact = torch.stack(terms, -1) * values.sign()[:, None]
    return _form(
        torch.ldexp(summation.of_terms(exact), torch.tensor(-10)), values, summation.explicit_bits
    )


def _form(got: Tensor, values: Tensor, full: int) -> Form:
    if torch.equal(got, values):
        return Factors(full)
    for bits in range(min(full, FULL_BITS - 1), _FEWEST_BITS - 1, -1):
        for ties in TIES:
            form = Factors(bits, ties)
            if torch.equal(got, round_mantissa(values.float(), form).double()):
                return form
    return Unknown(float(((got - values) / values).abs().nan_to_num(nan=torch.inf).max()))


def _values(explicit_bits: int) -> Tensor:
    """Numbers between 1 and 2, some of them ties of every shorter form, and their negatives."""
    generator = torch.Generator().manual_seed(0)
    ties = [
        1 + (number + 0.5) * 2.0**-bits
        for bits in range(_FEWEST_BITS, explicit_bits)
        for number in (0, 1, 2**bits - 2)
    ]
    random = torch.randint(1 << explicit_bits, (_RANDOM,), generator=generator)
    values = torch.cat([torch.tensor(ties, dtype=torch.float64), 1 + random * 2.0**-explicit_bits])
    return torch.cat([values, -values])
