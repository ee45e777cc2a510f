"""What rounding may cost the operators that sum up terms: rules of `allowance.py`.

Each rule gets a call's arguments by name, its exact result and the call, and gives the mean square
of the error of every element, over v^2 / 3 with v the unit roundoff of float32.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from harness.execution.operators.calls import Call, bound, rerun, results

# Roundings inside any operator that rounds at all.
CHAIN = 8
# Of F(4x4, 3x3): mean square of the error over v^2 / 3 sum t^2 / 9, for independent factors and a
# channel's sum, is G_r G_s with G_r = sum_i A_ri^2 |G_i|^2 |B_i|^2 over the rows of the transforms,
# 9.0, 8.6, 17.3, 94 (mean 32).  Rows of an image see one r and all s: 94 x 32 / 9.
_WINOGRAD = 335.0
_WINOGRAD_TILE = 4


_PLAIN_SUMS = frozenset(
    """mm bmm addmm baddbmm linear matmul mv addmv convolution _convolution conv2d sum""".split()
)


def shared_roundings(call: Call) -> int | None:
    """Roundings that all elements of a sum of many terms share, at most; None for no such sum.

    The result is stored once, by truncation where a device likes; a mean's divisor, and the scalars
    of a product, are one factor for all.  None too where errors repeat each other: one argument is
    several, or Winograd's transform rounds a filter once for all places.
    """
    if call.base in ("convolution", "_convolution", "conv2d") and _by_winograd(bound(call)):
        return None
    if any(step == 0 < size - 1 for x in call.tensors() for size, step in _steps(x)):
        return None
    if call.base == "mean":
        return 2
    scaled = any(call.kwargs.get(name, 1) != 1 for name in ("alpha", "beta"))
    return 1 + scaled if call.base in _PLAIN_SUMS else None


def _steps(x: Tensor) -> zip[tuple[int, int]]:
    return zip(x.shape, x.stride(), strict=True)


def squared(call: Call) -> Tensor:
    """The same operator on squared terms: sums, products and means of squares."""

    def square(tensor: Tensor) -> Tensor:
        return tensor.square() if tensor.is_floating_point() else tensor

    scalars = {
        name: value**2 if name in ("alpha", "beta") else value
        for name, value in call.kwargs.items()
    }
    plain = Call(call.func, call.args, scalars)
    return results(plain, rerun(plain, call.func, square, lambda dtype: dtype))[0]


def summed(terms: float | Tensor, squares: Tensor, o: Tensor) -> Tensor:
    """n terms in any order: n (sum of their squares + result^2)."""
    return terms * (squares + o.square())


def product(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    """Matrix products, a bias among the terms."""
    return summed(call.terms() + 1, squared(call), o)


def convolution(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    """Convolutions, a bias among the terms; Winograd where it can be used."""
    squares, terms = squared(call), call.terms()
    allowed = summed(terms + 1, squares, o)
    if _by_winograd(a):
        # A tile's error goes to all its places, however small their own terms.
        window = 2 * _WINOGRAD_TILE - 1
        around = torch.nn.functional.max_pool2d(squares, window, 1, window // 2)
        allowed += _WINOGRAD * (terms / 9 / 2 + CHAIN) * around
    return allowed


def _by_winograd(a: dict[str, Any]) -> bool:
    plain = tuple(a["weight"].shape[2:]) == (3, 3) and not a.get("transposed", False)
    return plain and set(a["stride"]) == {1} and set(a["dilation"]) == {1}


def total(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    """Sums."""
    return summed(reduced(a, o), squared(call), o)


def cumulative(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    """Cumulative sums: as many terms as the last one has."""
    return summed(a["self"].shape[a["dim"]] if o.dim() else 1, squared(call), o)


def mean(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    """Means."""
    # Terms x / n: n sum (x / n)^2 is the mean of the squares.
    return squared(call) + reduced(a, o) * o.square()


def mean_of_two(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    """The mean that var_mean and std_mean give beside their first result."""
    x: Tensor = a["self"]
    squares = x.square().mean(a.get("dim"), keepdim=bool(a.get("keepdim", False)))
    return squares + reduced(a, o) * o.square()


def pool(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    """Average pools."""
    divisor: int | None = a.get("divisor_override")
    window: int = math.prod(_pair(a["kernel_size"], o.dim() - 2))
    squares = squared(call) / (divisor or 1)  # divisor^-1 instead of divisor^-2
    return squares * (window / divisor if divisor else 1.0) + window * o.square()


def adaptive_pool(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    """Average pools to a size."""
    sizes = zip(a["self"].shape[-2:], o.shape[-2:], strict=True)
    window: int = math.prod(-(-size // out) + 1 for size, out in sizes)
    return squared(call) + window * o.square()


def _pair(value: Any, count: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * count if len(values) == 1 else values


def positive(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    """Sums of squares, their roots and products: every error is relative."""
    return (reduced(a, o) + 2 * CHAIN) * o.square()


def reduced(a: dict[str, Any], o: Tensor) -> float:
    """How many elements of the first tensor go into one of the result."""
    return max(1.0, next(iter(tensors(a))).numel() / max(1, o.numel()))


def tensors(a: dict[str, Any]) -> list[Tensor]:
    """The tensors among a call's arguments."""
    return [value for value in a.values() if isinstance(value, Tensor)]
