"""To how many bits a device rounds the factors of convolutions and matrix products, and how.

Settings declare HF32 or TF32; what a chip makes of them is measured as its form of GELU is.  A
product with one, summed up with zeros, gives a factor back as the device rounded it.  Only forms
that are published for the declared format are taken as its arithmetic:

HF32   11 bits ("its mantissa precision (11 bits) is close to FP16", CANN's data types), ties to
       even or away from zero (Ascend C, SetHF32Mode); 10 bits on the Ascend 950.
TF32   10 bits; PTX rounds (cvt.rna.tf32) to nearest with ties away, or ignores the lower bits.

Anything else, and any shortening where float32 is declared, is named and widens no budget.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from harness.execution.imitation import round_mantissa
from harness.judgement.arithmetic import FULL_BITS, HF32_BITS, TF32_BITS, Factors, Kind, declared

Run = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_HF32 = frozenset(Factors(HF32_BITS, ties) for ties in ("even", "away"))
_HF32_950 = _HF32 | {Factors(10, ties) for ties in ("even", "away")}
_TF32 = frozenset(Factors(TF32_BITS, ties) for ties in ("even", "away", "truncate"))
_CANDIDATES = (
    Factors(FULL_BITS),
    *(Factors(bits, ties) for bits in (11, 10, 7) for ties in ("even", "away", "truncate")),
)
_WIDTH = 16  # a cube unit's


def measure(
    device: torch.device, numerics: Mapping[str, str], chip: str
) -> tuple[dict[str, str], list[str]]:
    """Settings to add to `numerics`, which declare what was measured, and what is not declared.

    `numerics`: as the device has them, float32 on both sides of a product; `chip`: its name.
    """
    arithmetic = declared("float32", numerics)
    found, undeclared = {}, []
    for part, kind, run in _PARTS:
        seen = _seen(device, run)
        published: frozenset[Factors] = frozenset()
        if numerics.get(f"{part}.allow_hf32") == "True":
            published = _HF32_950 if "950" in chip else _HF32
        elif arithmetic.factors(kind) is not None:
            published = _TF32
        if seen is not None and seen in published:
            found[f"{part}.factors"] = str(seen)
        elif seen != Factors(FULL_BITS):
            what = "in no way known here" if seen is None else f"to {seen}"
            undeclared.append(
                f"{kind} rounds its float32 factors {what}, where {arithmetic.of(kind)} is "
                "declared (measured on it after the forward)"
            )
    return found, undeclared


def _seen(device: torch.device, run: Run) -> Factors | None:
    """The only form that both factors of an operator agree with, bit by bit; None for none."""
    values = _values()
    ones = torch.ones(_WIDTH, _WIDTH)
    spread = torch.zeros(len(values), _WIDTH)
    spread[:, 0] = values
    left = run(spread.to(device), ones.to(device)).cpu()[:, 0]
    right = run(ones.to(device), spread.T.contiguous().to(device)).cpu()[0]
    for form in _CANDIDATES:
        expected = values if form.bits == FULL_BITS else round_mantissa(values, form)
        if torch.equal(left, expected) and torch.equal(right, expected):
            return form
    return None


def _values() -> torch.Tensor:
    """Numbers between 1 and 2, a few of them ties of every candidate, and their negatives."""
    generator = torch.Generator().manual_seed(0)
    ties = [1 + (number + 0.5) * 2.0**-bits for bits in (7, 10, 11) for number in (0, 1, 6, 7)]
    values = torch.cat([torch.tensor(ties), 1 + torch.rand(20, generator=generator)])
    return torch.cat([values, -values])


def _convolution(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The product of [M, K] and [K, N] as a convolution of M places, K to N channels."""
    image = left.T.reshape(1, left.shape[1], left.shape[0], 1)
    weight = right.T.reshape(right.shape[1], right.shape[0], 1, 1)
    return torch.nn.functional.conv2d(image, weight)[0, :, :, 0].T


# The part of the settings, the kind of operators that it is about, and the probe.
_PARTS: tuple[tuple[str, Kind, Run], ...] = (
    ("conv", "convolution", _convolution),
    ("matmul", "product", torch.mm),
)
