"""Width and rounding of what a device adds up in.

By the tests of M. Fasi, N. Higham, M. Mikaitis and S. Pranesh, Numerical behavior of NVIDIA tensor
cores (PeerJ Computer Science 7:e330, 2021): to 1 a smaller and smaller number is added, then 1 is
taken away again, which is exact; what is left tells how many bits were kept, and of parts of the
last bit how they were rounded.
"""

from __future__ import annotations

import dataclasses

import torch

from harness.execution.probes.order import Order
from harness.execution.probes.summation import TERMS, Summation

_LARGE = 14  # log2 of the number that stands for 1: what is left of it is no subnormal number
_PARTS = (0.25, 0.5, 0.75)  # of the last bit
# Of these parts, added to a positive number and as negative ones to a negative number: which
# become a whole bit.
_ROUNDINGS: dict[tuple[tuple[float, ...], ...], str] = {
    ((0, 0, 1), (0, 0, 1)): "to nearest, ties to even",
    ((0, 1, 1), (0, 1, 1)): "to nearest, ties away from zero",
    ((0, 0, 0), (0, 0, 0)): "truncated",
    ((1, 1, 1), (0, 0, 0)): "rounded up",
    ((0, 0, 0), (1, 1, 1)): "rounded down",
    ((1, 1, 1), (1, 1, 1)): "rounded away from zero",
}


@dataclasses.dataclass(frozen=True)
class Accumulator:
    """`bits`: of the significand, the leading one included; 0: nothing is kept.

    `rounding`: how a sum is brought to them; "" where it was not found out.
    `open`: there may be more bits than the dtype can ask for.
    """

    bits: int
    rounding: str
    open: bool = False

    def __str__(self) -> str:
        name = {24: " (float32)", 11: " (float16)", 8: " (bfloat16)", 53: " (float64)"}
        bits = (
            f"{'at least ' * self.open}{self.bits} bits{name.get(self.bits, '') * (not self.open)}"
        )
        return f"{bits}, {self.rounding or 'rounded in no way known here'}"


def measure(summation: Summation, order: Order) -> tuple[Accumulator, Accumulator]:
    """Where the first terms meet, and where sums of many terms do (blocks, if there are any)."""
    (one, high), (_, below), *_ = meetings = order.meetings()
    (_, low), (_, next_) = meetings[-1], meetings[-2]
    return _at(summation, (one, low, next_)), _at(summation, (one, below, high))


def _at(summation: Summation, places: tuple[int, int, int]) -> Accumulator:
    """`places`: of the number that stands for 1, of what is added, and of its negative."""
    deepest = min(summation.widest - 2 - 2 * (not summation.is_product), 60)
    powers = range(1, deepest)
    left = _left(summation, places, [2.0**-power for power in powers])
    kept = [power for power, found in zip(powers, left, strict=True) if found == 2.0**-power]
    bits = 0
    while bits + 1 in kept:
        bits += 1
    if bits == 0:
        return Accumulator(0, "")
    if bits == deepest - 1:
        return Accumulator(bits + 1, "", open=True)
    last = 2.0**-bits
    signed = [_left(summation, places, [part * last for part in _PARTS], s) for s in (1.0, -1.0)]
    whole = tuple(tuple(found / last for found in one) for one in signed)
    return Accumulator(bits + 1, _ROUNDINGS.get(whole, ""))


def _left(
    summation: Summation, places: tuple[int, int, int], added: list[float], sign: float = 1.0
) -> list[float]:
    """What is left of each number that was added to 1, all of it times `sign`; without it again."""
    rows = torch.zeros(len(added), TERMS, dtype=torch.float64)
    rows[:, places[0]], rows[:, places[2]] = 1.0, -1.0
    rows[:, places[1]] = torch.tensor(added, dtype=torch.float64)
    one = sign * 2.0**_LARGE
    return [float(found) for found in summation.of_terms(rows * one) / one]
