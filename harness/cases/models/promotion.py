"""A model in a short dtype, or with HF32, with some modules in float32.

What goes into such a module is cast to float32, and what comes out of it is cast back.  A tensor
that was cast back keeps the float32 one beside it, for the next such module: nothing is rounded
between two that follow each other, and a number beyond the short dtype's range gets through.
torch_npu's switches that allow HF32 are off while such a module runs, and then as they were.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

_KEPT = "_kept_in_float32"  # on a tensor that was cast back: the float32 one, and its version

Cast = Callable[[torch.Tensor], torch.Tensor]


def promote(model: nn.Module, dtype: torch.dtype, modules: Collection[str]) -> nn.Module:
    """Cast a float32 model to `dtype`, but for `modules` and what lies in them; in place.

    Those compute without HF32, which is all there is to it where `dtype` is float32.

    Raises AttributeError for a module that is not there.
    """
    if not modules:
        return model.to(dtype)
    without_hf32(model, modules)
    if dtype == torch.float32:
        return model
    kept = weights_of(model, modules)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point() and id(tensor) not in kept:
            tensor.data = tensor.data.to(dtype)
    return bound(model, modules, lambda tensor: tensor.float(), lambda tensor: tensor.to(dtype))


def without_hf32(model: nn.Module, modules: Collection[str]) -> None:
    """Have `modules` switch HF32 off while they run, failed or not."""
    running: list[contextlib.AbstractContextManager[None]] = []

    def enter(module: nn.Module, args: Any) -> None:
        running.append(full_float32())
        running[-1].__enter__()

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        running.pop().__exit__(None, None, None)

    for path in modules:
        module = model.get_submodule(path)
        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave, always_call=True)


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """HF32 is off while inside; nothing to do without torch_npu."""
    npu = getattr(torch, "npu", None)
    settings = [] if npu is None else [npu.conv, npu.matmul]
    before = [setting.allow_hf32 for setting in settings]
    for setting in settings:
        setting.allow_hf32 = False
    try:
        yield
    finally:
        for setting, allowed in zip(settings, before, strict=True):
            setting.allow_hf32 = allowed


def weights_of(model: nn.Module, modules: Collection[str]) -> set[int]:
    """Ids of the parameters and buffers in some of a model's modules."""
    inside = (model.get_submodule(path) for path in modules)
    return {id(one) for module in inside for one in (*module.parameters(), *module.buffers())}


def bound(
    model: nn.Module,
    modules: Collection[str],
    widen: Cast,
    narrow: Cast,
    entered: Callable[[int], None] = lambda change: None,
) -> nn.Module:
    """Have `modules` cast what they are given by `widen` and what they give by `narrow`.

    `entered` hears 1 before each of their forward passes and -1 after it, failed or not.
    """

    def enter(module: nn.Module, args: Any, kwargs: Any) -> Any:
        entered(1)
        return tree_map_only(torch.Tensor, wide, (args, kwargs))

    def leave(module: nn.Module, args: Any, output: Any) -> Any:
        try:
            return tree_map_only(torch.Tensor, cast_back, output)
        finally:
            entered(-1)

    def wide(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point():
            return tensor
        kept, version = getattr(tensor, _KEPT, (None, None))
        if kept is not None and _unwritten(tensor, version, kept, narrow):
            found: torch.Tensor = kept
            return found
        return widen(tensor)

    def cast_back(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dtype != torch.float32:
            return tensor
        short = narrow(tensor)
        if short is tensor:
            return tensor
        setattr(short, _KEPT, (tensor, None if short.is_inference() else short._version))
        return short

    for path in modules:
        module = model.get_submodule(path)
        module.register_forward_pre_hook(enter, with_kwargs=True)
        module.register_forward_hook(leave, always_call=True)
    return model


def _unwritten(tensor: torch.Tensor, version: int | None, kept: torch.Tensor, narrow: Cast) -> bool:
    """Whether a tensor is still what was cast back; in inference mode nothing counts writes."""
    if version is None:
        return torch.equal(tensor, narrow(kept))
    return tensor._version == version
