"""Operators as sums of given terms, which is all that most probes need of a device."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

# Terms of a sum: two of the longest blocks that are looked for (128).
TERMS = 256
# Sums in one call, whatever is asked: kernels may choose their order by the shape.
_ROWS = 64


@dataclasses.dataclass(frozen=True)
class Summation:
    """An operator that adds up terms, on one device in one dtype.

    `run`: [64, 256] and [256, 64] on the device, to [64, 64] for `is_product`, whose diagonal is
    taken; else [64, 256] to [64], and there is no second argument.
    """

    name: str
    run: Callable[..., Tensor]
    device: torch.device
    dtype: torch.dtype
    is_product: bool = True

    @property
    def explicit_bits(self) -> int:
        """Explicit mantissa bits of the dtype."""
        return -round(math.log2(torch.finfo(self.dtype).eps))

    @property
    def widest(self) -> int:
        """The binary logarithm of the greatest term over the least, without subnormal numbers."""
        limits = torch.finfo(self.dtype)
        range_ = math.floor(math.log2(limits.max)) - math.ceil(math.log2(limits.tiny))
        return (2 if self.is_product else 1) * range_

    def of_terms(self, terms: Tensor) -> Tensor:
        """The sums of terms [R, n], float64 and n <= 256 (filled with zeros), as float64 [R].

        A product's factors are the terms' mantissas and powers of two of half their exponents, so
        that they hold terms beyond the range of their dtype.
        """
        mantissa, exponent = torch.frexp(terms)
        half = torch.div(exponent, 2, rounding_mode="floor") * self.is_product
        left = torch.ldexp(mantissa, exponent - half)
        right = torch.ldexp(torch.ones_like(terms), half)
        return self.of_factors(left, right)

    def of_factors(self, left: Tensor, right: Tensor) -> Tensor:
        """The sums of left * right, both float64 [R, n] and exact in the dtype, as float64 [R]."""
        found = []
        for some, others in zip(left.split(_ROWS), right.split(_ROWS), strict=True):
            given = [self._filled(factor) for factor in (some, others)]
            if self.is_product:
                result = self.run(given[0].to(self.device), given[1].T.contiguous().to(self.device))
                sums = result.cpu().diagonal()
            else:
                sums = self.run(given[0].to(self.device)).cpu()
            found.append(sums[: len(some)].double())
        return torch.cat(found)

    def _filled(self, factor: Tensor) -> Tensor:
        whole = torch.zeros(_ROWS, TERMS, dtype=self.dtype)
        whole[: factor.shape[0], : factor.shape[1]] = factor.to(self.dtype)
        return whole


def convolution(left: Tensor, right: Tensor) -> Tensor:
    """The product of [M, K] and [K, N] as a convolution of M places, K to N channels."""
    image = left.T.reshape(1, left.shape[1], left.shape[0], 1)
    weight = right.T.reshape(right.shape[1], right.shape[0], 1, 1)
    return torch.nn.functional.conv2d(image, weight)[0, :, :, 0].T


def of_device(device: torch.device, dtype: torch.dtype) -> list[Summation]:
    """The operators that are looked at."""
    found = [
        Summation("mm", torch.mm, device, dtype),
        Summation("conv2d", convolution, device, dtype),
        Summation("sum", lambda terms: terms.sum(-1), device, dtype, is_product=False),
    ]
    if dtype != torch.float16:  # whose range is too short for a 256th of the terms
        found.append(Summation("mean", _mean, device, dtype, is_product=False))
    return found


def _mean(terms: Tensor) -> Tensor:
    """The sum again: the number of terms is a power of two."""
    return terms.mean(-1).cpu() * TERMS
