"""Giant calls, made smaller so that what tiles leave over stays.

Few of timm's calls hold most of all arithmetic: with these limits one in seven is cropped, and all
of them take half the arithmetic that they take at 4 GFLOP and 2^23 elements.  A size n is taken
down to n - j m, where m is 512, or where that is not enough 128, 64 and 16: the remainders modulo m
and all smaller ones of these stay, and so do the edges of tiles where kernels go wrong.  A size is
changed wherever it occurs in the call, in its scalars too, and what the operator does not accept so
is left alone.  What was changed is said wherever the call is shown.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from harness.qualification import inputs
from harness.qualification.signatures import Layout, Signature

MODULI = (512, 128, 64, 16)
MOST_FLOPS = 1e9
MOST_ELEMENTS = 1 << 22  # of all tensors together, results included


@dataclasses.dataclass(frozen=True)
class Cropped:
    """A call to run in the place of another; `what`: "4096 -> 512 (mod 512)", "" for itself."""

    signature: Signature
    what: str = ""


def crop(signature: Signature, flops: float = MOST_FLOPS, elements: int = MOST_ELEMENTS) -> Cropped:
    """The call, or a smaller one like it where it is beyond either limit."""
    if not _over(_cost(signature), flops, elements):
        return Cropped(signature)
    sizes: dict[int, int] = {}
    coarsest = 0
    best = signature
    for modulus in MODULI:
        while True:
            now = {old: sizes.get(old, old) for old in _sizes(signature)}
            able = [old for old, new in now.items() if new >= 2 * modulus]
            if not able:
                break
            old = max(able, key=lambda size: now[size])
            halved = now[old] - modulus * max(1, now[old] // modulus // 2)
            tried = {**sizes, old: halved}
            smaller = _replaced(signature, tried)
            cost = None if smaller is None else _cost(smaller)
            if smaller is None or cost is None:
                break
            sizes, best, coarsest = tried, smaller, modulus
            if not _over(cost, flops, elements):
                return Cropped(best, _said(sizes, coarsest))
    return Cropped(best, _said(sizes, coarsest))


def _said(sizes: Mapping[int, int], modulus: int) -> str:
    if not sizes:
        return ""
    pairs = ", ".join(f"{old} -> {new}" for old, new in sorted(sizes.items(), reverse=True))
    return f"{pairs} (mod {modulus})"


def _over(cost: tuple[float, int] | None, flops: float, elements: int) -> bool:
    return cost is not None and (cost[0] > flops or cost[1] > elements)


def _sizes(signature: Signature) -> set[int]:
    return {size for layout in signature.layouts() for size in layout.shape if size >= 32}


def _replaced(signature: Signature, sizes: Mapping[int, int]) -> Signature | None:
    """The signature with other sizes; None where its strides do not say what they become."""
    layouts: dict[int, Layout] = {}

    def leaf(value: Any) -> Any:
        if isinstance(value, Layout):
            if id(value) not in layouts:
                layouts[id(value)] = _resized(value, sizes)
            return layouts[id(value)]
        if isinstance(value, (tuple, list)):
            return type(value)(leaf(item) for item in value)
        whole = isinstance(value, int) and not isinstance(value, bool)
        return sizes.get(value, value) if whole else value

    try:
        args = leaf(signature.args)
        kwargs = {name: leaf(value) for name, value in signature.kwargs.items()}
    except ValueError:
        return None
    return Signature(signature.operator, args, kwargs)


def _resized(layout: Layout, sizes: Mapping[int, int]) -> Layout:
    """Raises ValueError for strides with gaps other than those of a part of a greater tensor."""
    shape = tuple(sizes.get(size, size) for size in layout.shape)
    if shape == layout.shape:
        return layout
    strides = [0] * len(shape)
    old_step = step = 1
    for axis in sorted(range(len(shape)), key=lambda i: (layout.strides[i], -i)):
        if layout.strides[axis] == 0:
            continue
        if layout.strides[axis] % old_step:
            raise ValueError("strides that do not follow each other")
        step *= layout.strides[axis] // old_step  # a gap is kept as a factor
        strides[axis] = step
        old_step = layout.strides[axis] * layout.shape[axis]
        step *= shape[axis]
    return Layout(layout.dtype, shape, tuple(strides), layout.offset)


class _Flops(TorchDispatchMode):
    """Counts by PyTorch's formulas; its own counter loads all of its compiler first (1.5 s)."""

    flops = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(func._overloadpacket):
            self.flops += formula(*args, **(kwargs or {}), out_val=found)
        return found


# No products, and results of no more elements than the first argument.
_SIZED = inputs.FUNCTIONS | inputs.NORMALISATIONS | inputs.SOFTMAX


def _cost(signature: Signature) -> tuple[float, int] | None:
    """Floating-point operations and elements of a call; None where it does not run on shapes."""
    arguments = [layout.elements for layout in signature.layouts()]
    if inputs.base_of(signature.operator) in _SIZED and arguments:
        return 0.0, arguments[0] + sum(arguments)

    def empty(_: int, layout: Layout) -> torch.Tensor:
        return torch.empty(layout.extent, dtype=layout.dtype, device="meta").as_strided(
            layout.shape, layout.strides, layout.offset
        )

    try:
        call = signature.call(empty, "meta")
        with torch.no_grad(), _Flops() as counter:  # type: ignore[no-untyped-call]
            found = call.func(*call.args, **call.kwargs)
    except Exception:  # whatever the operator says of such arguments
        return None
    leaves = [found] if isinstance(found, torch.Tensor) else list(found or ())
    results = sum(leaf.numel() for leaf in leaves if isinstance(leaf, torch.Tensor))
    return float(counter.flops), results + sum(arguments)
