"""A model's operator calls by shapes and dtypes alone: no weights, no arithmetic, no device.

A model is built with its large tensors zero, in memory that is never touched, and runs once on
PyTorch's fake tensors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from harness.execution.operators.calls import mapped
from harness.execution.operators.recorder import OnCall, recording

# Elements from which on a tensor is not filled while a model is built: smaller ones may be looked
# at (rates of stochastic depth, sizes of a grid).
_LARGE = 1 << 14
_ALLOCATIONS = frozenset(("empty", "empty_like", "empty_strided", "new_empty"))


class Unfilled(TorchDispatchMode):
    """While inside, large tensors on the CPU are zero and stay so: their memory is never touched.

    Not left as they are found: initialisers that draw again what lies out of bounds would not end.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        first = func._schema.arguments[:1]
        written = bool(first) and first[0].alias_info is not None and first[0].alias_info.is_write
        if written and isinstance(args[0], torch.Tensor) and args[0].numel() >= _LARGE:
            return args[0]
        value = func(*args, **(kwargs or {}))
        base = func._schema.name.partition("::")[2]
        if base in _ALLOCATIONS and value.numel() >= _LARGE and value.device.type == "cpu":
            return _zero(value)
        return value


def _zero(like: torch.Tensor) -> torch.Tensor:
    """From the system, which gives memory that is zero without writing to it."""
    memory = np.zeros(like.numel() * like.element_size(), np.uint8)
    return torch.from_numpy(memory).view(like.dtype).as_strided(like.shape, like.stride())


def cast(value: Any, dtype: torch.dtype | None) -> Any:
    """Floating-point tensors in a dtype, as `Module.to` does; all else, and all for None, as is."""

    def leaf(item: Any) -> Any:
        floating = isinstance(item, torch.Tensor) and item.is_floating_point()
        return item.to(dtype) if floating and dtype is not None else item

    return mapped(leaf, value)


def run(
    model: torch.nn.Module,
    inputs: tuple[Any, ...] | dict[str, Any],
    whole: contextlib.AbstractContextManager[None],
    on_call: OnCall,
    dtype: torch.dtype | None = None,
) -> None:
    """Have `on_call` run every operator call of one forward pass, on fake tensors.

    `model`: in eval mode, on the CPU; its weights are not read.  `inputs`: its arguments, those of
    a dict by name; values of tensors are not read either.  `whole`: which composites are one call
    (`dispatch.py`).  `dtype`: of all that is floating point; None: as they are.  Raises whatever
    the model does, and PyTorch's own error where it looks at values.
    """
    with FakeTensorMode(allow_non_fake_inputs=True) as fakes:
        state = {
            name: _empty_like(tensor)
            for name, tensor in (*model.named_parameters(), *model.named_buffers())
        }
        arguments = mapped(
            lambda item: fakes.from_tensor(item) if isinstance(item, torch.Tensor) else item, inputs
        )
        state, arguments = cast(state, dtype), cast(arguments, dtype)
        with _plain_tensors(model, dtype), recording(model, whole, on_call):
            named = arguments if isinstance(arguments, dict) else {}
            torch.func.functional_call(model, state, () if named else arguments, named)


def _empty_like(tensor: torch.Tensor) -> torch.Tensor:
    """On the CPU, inside the mode: fake."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)


@contextlib.contextmanager
def _plain_tensors(model: torch.nn.Module, dtype: torch.dtype | None) -> Iterator[None]:
    """Cast what modules keep in plain attributes, which `Module.to` does not know (convit)."""
    kept = [
        (module, name, value)
        for module in model.modules()
        for name, value in vars(module).items()
        if isinstance(value, torch.Tensor)
    ]
    try:
        for module, name, value in kept:
            setattr(module, name, cast(value, dtype))
        yield
    finally:
        for module, name, value in kept:
            setattr(module, name, value)
