"""Operators that are made of several: how normalisations, pools and convolutions go about it, and
which reductions give the same bits every time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from harness.execution.probes.functions import digest

_nn = torch.nn.functional
REPEATS = 10
SAME, DIFFERENT = "the same bits every time", "other bits from time to time"
_LENGTH = 1024
IN_FORMAT = "times the inverse in the format"
WIDER, NARROW = "wider than the format", "in the format"
_NEAR = 2.0**-6


def traits(name: str, device: torch.device, dtype: torch.dtype) -> dict[str, str]:
    """Trait -> what was seen of one of `COMPOSITES`; none where a dtype cannot show any."""
    return COMPOSITES[name](lambda values: values.to(dtype).to(device), dtype)


def repeats(name: str, device: torch.device, dtype: torch.dtype) -> dict[str, str]:
    """Whether one of `REDUCTIONS` gives the same bits when it is repeated, and their digest."""
    generator = torch.Generator().manual_seed(0)
    shapes, operator = REDUCTIONS[name]
    given = [torch.randn(shape, generator=generator).to(dtype).to(device) for shape in shapes]
    bits = [digest(operator(*given)) for _ in range(REPEATS)]
    if len(set(bits)) > 1:
        return {"repeats": DIFFERENT}
    return {"repeats": SAME, "bits": bits[0]}


Place = Callable[[Tensor], Tensor]  # to the device, in the dtype that is asked about


def _layer_norm(x: Tensor) -> Tensor:
    return _nn.layer_norm(x, x.shape[-1:], eps=1e-12)


def _group_norm(x: Tensor) -> Tensor:
    return _nn.group_norm(x[:, None], 1, eps=1e-12)[:, 0]


def _variance(norm: Place, place: Place) -> str:
    """Of 30001 +- 1, whose squares are no float32 numbers: a difference of squares cancels."""
    signs = torch.tensor([1.0, -1.0]).repeat(_LENGTH // 2).expand(2, -1)
    found = norm(place(30001 + signs)).cpu().float()
    if float((found - signs).abs().nan_to_num(nan=math.inf).max()) <= _NEAR:
        return "of differences from the mean"
    return "mean square minus square of the mean"


def statistics(place: Place, dtype: torch.dtype, length: int) -> str:
    """In what layer norm keeps the mean: that of 1 and the next number needs one bit more."""
    numbers = torch.ones(2, length, dtype=torch.float64)
    numbers[:, ::2] += torch.finfo(dtype).eps
    one = place(torch.ones(length))
    got = _nn.layer_norm(place(numbers), [length], one, torch.zeros_like(one), eps=1e-12)
    exact = torch.where(numbers > 1, 1.0, -1.0)
    error = float((got.cpu().double() - exact).abs().nan_to_num(nan=math.inf).max())
    # Rounded, the mean is one of the two numbers: 0 and twice the deviation come out.
    return WIDER if error <= 0.25 else NARROW


def _constant(place: Place) -> str:
    """Variance 0, where one that is computed below -eps has no root."""
    constants = torch.linspace(0.5, 300, 600)[:, None].expand(-1, 192)
    got = _nn.group_norm(place(constants.contiguous())[:, None], 1, eps=1e-5).cpu()
    if torch.isnan(got).any():
        return "NaN for some"
    return "zero" if float(got.abs().max()) <= 0.05 else "not zero for some"


def _scaled(place: Place, largest: float) -> str:
    """Four numbers whose sum leaves the range, as each quarter of them does not."""
    got = float(place(torch.full((1, 4), largest / 2)).mean(-1).cpu().double())
    if math.isinf(got):
        return "added, then divided"
    return "scaled, then added" if got == largest / 2 else f"{got:.6g} of {largest / 2:.6g}"


def _differences(place: Place, dtype: torch.dtype) -> str:
    """In what softmax keeps x - max: of 8 and a small number it needs more bits."""
    small = -0.25 - 2 * torch.finfo(dtype).eps
    got = float(torch.softmax(place(torch.tensor([[8.0, small]])), -1).cpu().double()[0, 1])
    rounded = float(torch.tensor(small - 8.0, dtype=torch.float64).to(dtype))
    wide, narrow = (torch.sigmoid(torch.tensor(x)).item() for x in (small - 8.0, rounded))
    return WIDER if dtype == torch.float32 or abs(got - wide) < abs(got - narrow) else NARROW


def _divisor(mean: Callable[[Tensor], Tensor], count: int, place: Place) -> str:
    """How `mean` of a number and zeros, [64] to [64], comes to its part of the number."""
    generator = torch.Generator().manual_seed(0)
    numbers = place(1 + torch.rand(64, generator=generator))
    got, exact = mean(numbers).cpu(), numbers.cpu().double()
    for name, part in (
        ("divided", exact / count),
        ("times the inverse in float32", exact * float(torch.tensor(1 / count))),
        (IN_FORMAT, exact * float(torch.tensor(1 / count).to(got.dtype))),
    ):
        if torch.equal(part.to(got.dtype), got):
            return name
    return f"relative error up to {float(((got.double() * count - exact) / exact).abs().max()):.2g}"


def _mean_of_49(numbers: Tensor) -> Tensor:
    rows = torch.zeros(len(numbers), 49, dtype=numbers.dtype, device=numbers.device)
    rows[:, 0] = numbers
    return rows.mean(-1)


def _pool_of_9(numbers: Tensor) -> Tensor:
    """With padding that counts, which makes the window's size part of the factor."""
    images = torch.zeros(len(numbers), 1, 3, 3, dtype=numbers.dtype, device=numbers.device)
    images[:, 0, 1, 1] = numbers
    return _nn.avg_pool2d(images, 3, 1, 1)[:, 0, 1, 1]


def _reach(place: Place) -> str:
    """How far a huge number, which has the weight 0 in all sums but one, disturbs other sums.

    Not at all where the terms alone are added; over its tile where tiles are transformed.
    """
    size, channels, worst = 24, 16, 0
    weight = torch.zeros(channels, channels, 3, 3)
    weight[:, :, 0, 0] = 0.25
    for centre in range(10, 14):  # wherever in a tile it lies
        image = torch.ones(1, channels, size, size)
        image[:, :, centre, centre] = 2.0**40
        row = _nn.conv2d(place(image), place(weight)).cpu()[0, 0, centre]
        disturbed = ~((row - channels / 4).abs() < _NEAR)
        disturbed[centre] = False
        found = torch.nonzero(disturbed).flatten().tolist()
        worst = max(worst, found[-1] - found[0] + 1 if found else 0)
    return f"tiles of {worst}" if worst else "its own terms alone"


def _of_layer_norm(place: Place, dtype: torch.dtype) -> dict[str, str]:
    if dtype == torch.float32:
        return {"variance": _variance(_layer_norm, place)}
    return {f"statistics of {length}": statistics(place, dtype, length) for length in (768, 1024)}


def _of_group_norm(place: Place, dtype: torch.dtype) -> dict[str, str]:
    found = {"constant input": _constant(place)}
    if dtype == torch.float32:
        found["variance"] = _variance(_group_norm, place)
    return found


def _of_mean(place: Place, dtype: torch.dtype) -> dict[str, str]:
    found = {"divisor": _divisor(_mean_of_49, 49, place)}
    if dtype != torch.float16:  # whose numbers' sums in float32 never leave its range
        found["terms"] = _scaled(place, torch.finfo(dtype).max)
    return found


def _of_convolution(place: Place, dtype: torch.dtype) -> dict[str, str]:
    return {"reach": _reach(place)} if dtype == torch.float32 else {}


COMPOSITES: Mapping[str, Callable[[Place, torch.dtype], dict[str, str]]] = {
    "conv2d 3x3": _of_convolution,
    "mean": _of_mean,
    "softmax": lambda place, dtype: {"differences": _differences(place, dtype)},
    "avg_pool2d": lambda place, dtype: {"divisor": _divisor(_pool_of_9, 9, place)},
    "layer_norm": _of_layer_norm,
    "group_norm": _of_group_norm,
}
# Shapes of the arguments, and the operator.
REDUCTIONS: Mapping[str, tuple[tuple[tuple[int, ...], ...], Callable[..., Tensor]]] = {
    "sum": (((64, 2048),), lambda x: x.sum()),
    "mean": (((8, 32, 28, 28),), lambda x: x.mean((-1, -2))),
    "softmax": (((64, 768),), lambda x: torch.softmax(x, -1)),
    "layer_norm": (((64, 768),), lambda x: _nn.layer_norm(x, x.shape[-1:])),
    "group_norm": (((4, 32, 28, 28),), lambda x: _nn.group_norm(x, 4)),
    "cumsum": (((16, 512),), lambda x: x.cumsum(-1)),
    "mm": (((64, 2048), (2048, 64)), torch.mm),
    "conv2d": (((2, 64, 14, 14), (64, 64, 3, 3)), lambda x, w: _nn.conv2d(x, w, padding=1)),
    "adaptive_avg_pool2d": (((4, 64, 14, 14),), lambda x: _nn.adaptive_avg_pool2d(x, 7)),
    # All rows onto four: where they are added as they come, their order is chance.
    "index_add": (
        ((64, 256),),
        lambda x: torch.zeros_like(x).index_add(0, torch.arange(len(x), device=x.device) % 4, x),
    ),
    "attention": (((2, 4, 128, 32),) * 3, _nn.scaled_dot_product_attention),
}
