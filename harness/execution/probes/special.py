"""Numbers at the ends of the range: subnormal ones, overflow, infinities, NaN."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from harness.execution.probes.summation import Summation

KEPT, FLUSHED = "kept", "flushed to zero"
INFINITE, SATURATES = "infinite", "saturates"
PROPAGATES = "as IEEE 754"

Pairs = list[tuple[float, float]]
_Place = tuple[torch.device, torch.dtype]


def of_sums(summation: Summation) -> dict[str, str]:
    """Traits of a sum of products, or of plain terms."""

    def run(pairs: Pairs) -> list[float]:
        left = torch.tensor([[first, 0.0] for first, _ in pairs], dtype=torch.float64)
        right = torch.tensor([[second, 0.0] for _, second in pairs], dtype=torch.float64)
        return [float(found) for found in summation.of_factors(left, right)]

    def total(terms: list[list[float]]) -> list[float]:
        rows = torch.tensor(terms, dtype=torch.float64)
        return [float(found) for found in summation.of_factors(rows, torch.ones_like(rows))]

    largest = torch.finfo(summation.dtype).max
    found = {"overflow": _overflow(total([[largest, largest]])[0], largest)}
    invalid = [([math.inf, -math.inf], math.nan), ([math.nan, 0.0], math.nan)]
    if summation.is_product:
        found |= _subnormal(summation.dtype, run)
        (zero,) = run([(math.inf, 0.0)])
        invalid.append(([math.nan if math.isnan(zero) else 0.0, 0.0], math.nan))
    seen = total([terms for terms, _ in invalid])
    found["invalid"] = _same(seen, [wanted for _, wanted in invalid])
    return found


def of_elements(name: str, device: torch.device, dtype: torch.dtype) -> dict[str, str]:
    """Traits of one of `ELEMENTS`: operators on single numbers, and those that choose one."""
    return ELEMENTS[name](device, dtype)


def _binary(operator: Callable[..., Tensor], place: _Place) -> Callable[[Pairs], list[float]]:
    device, dtype = place

    def run(pairs: Pairs) -> list[float]:
        left, right = torch.tensor(pairs, dtype=torch.float64).to(dtype).T.contiguous()
        return [float(found) for found in operator(left.to(device), right.to(device)).cpu()]

    return run


def _multiplication(*place: Any) -> dict[str, str]:
    run, largest = _binary(torch.mul, place), torch.finfo(place[1]).max
    return {**_subnormal(place[1], run), "overflow": _overflow(run([(largest, 2.0)])[0], largest)}


def _addition(*place: Any) -> dict[str, str]:
    run, limits = _binary(torch.add, place), torch.finfo(place[1])
    (small, large) = run([(limits.tiny / 4, 0.0), (limits.max, limits.max)])
    return {
        "subnormal numbers": _kept(small, limits.tiny / 4),
        "overflow": _overflow(large, limits.max),
    }


def _cast(device: torch.device, dtype: torch.dtype) -> dict[str, str]:
    """Of a number between the greatest of float16 and of float32."""
    if dtype != torch.float16:
        return {}
    stored = torch.tensor([1e6]).to(device).to(dtype).cpu()
    return {"overflow": _overflow(float(stored), torch.finfo(dtype).max)}


def _choice(operator: Callable[[Tensor], Tensor]) -> Callable[..., dict[str, str]]:
    def seen(device: torch.device, dtype: torch.dtype) -> dict[str, str]:
        image = torch.tensor([[1.0, math.nan], [2.0, 3.0]], dtype=dtype)[None, None]
        chosen = float(operator(image.to(device)).cpu().flatten()[0])
        return {"NaN": "propagates" if math.isnan(chosen) else "is passed over"}

    return seen


ELEMENTS: Mapping[str, Callable[[torch.device, torch.dtype], dict[str, str]]] = {
    "mul": _multiplication,
    "add": _addition,
    "cast": _cast,
    "max_pool2d": _choice(lambda image: torch.nn.functional.max_pool2d(image, 2)),
    "amax": _choice(lambda image: image.amax((-1, -2))),
    "relu": _choice(lambda image: torch.relu(image[..., 0, 1:])),
}


def _subnormal(dtype: torch.dtype, run: Callable[[Pairs], list[float]]) -> dict[str, str]:
    tiny = torch.finfo(dtype).tiny
    half = round(math.log2(tiny)) // 2  # tiny is 2^(2 half)
    taken, given = run([(tiny / 4, 16.0), (2.0**half, 2.0 ** (half - 1))])
    return {
        "subnormal factors": _kept(taken, 4 * tiny),
        "subnormal results": _kept(given, tiny / 2),
    }


def _kept(found: float, exact: float) -> str:
    return KEPT if found == exact else FLUSHED if found == 0 else f"{found:.6g} for {exact:.6g}"


def _overflow(found: float, largest: float) -> str:
    if found == math.inf:
        return INFINITE
    return SATURATES if found == largest else f"{found:.6g}"


def _same(found: list[float], wanted: list[float]) -> str:
    same = all(
        one == other or math.isnan(one) and math.isnan(other)
        for one, other in zip(found, wanted, strict=True)
    )
    return PROPAGATES if same else f"{', '.join(f'{one:g}' for one in found)}"
