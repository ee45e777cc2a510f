"""A model in float64 whose weights are held in float32, and widened operator by operator.

A whole float64 model takes twice the memory of its weights.  Here a parameter is a tensor that says
it is float64 and holds float32: every operator that is given one gets a float64 copy, which is
exact and lives as long as the operator's result needs it.  The operators, their order and their
numbers are those of the whole float64 model, and so are all bits of the outputs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map_only


class Widened(torch.Tensor):
    """A float64 tensor that holds the float32 tensor `held`.

    One that an operator writes to holds float64 of its own from then on.
    """

    held: torch.Tensor
    # Python is not asked before an operator, so that a module takes the ways of a plain tensor.
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Widened:
        """The same shape and strides."""
        made: Widened = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=torch.float64,
            device=held.device,
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operator on float64 tensors."""
        kwargs = kwargs or {}
        if func is torch.ops.aten.detach.default:
            return cls(args[0].held)  # as nn.Parameter asks
        if func._schema.is_mutable:
            for argument, value in zip(func._schema.arguments, args, strict=False):
                written = argument.alias_info is not None and argument.alias_info.is_write
                if written and isinstance(value, Widened):
                    value.held = value.held.double()
        return func(*_wide(args), **_wide(kwargs))


def _wide(value: Any) -> Any:
    return tree_map_only(Widened, lambda tensor: tensor.held.double(), value)


def by_operator(model: nn.Module) -> nn.Module:
    """Make a float32 model on the CPU compute in float64; in place, but for the numbers themselves.

    Buffers, which a forward pass may write to, are made float64 as they are; they are few.
    """
    made: dict[int, nn.Parameter] = {}  # tied parameters stay tied
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is None or parameter.dtype != torch.float32:
                continue
            if id(parameter) not in made:
                made[id(parameter)] = nn.Parameter(Widened(parameter.detach()), requires_grad=False)
            module._parameters[name] = made[id(parameter)]
    for tensor in (*model.parameters(), *model.buffers()):
        if not isinstance(tensor, Widened) and (tensor.is_floating_point() or tensor.is_complex()):
            wide = torch.complex128 if tensor.is_complex() else torch.float64
            tensor.data = tensor.data.to(wide)
    return model
