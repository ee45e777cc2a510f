"""Which parameters scale a tensor, found while torch's functions are called.

A tensor's **origins** are the parameters in which it is linear, with the power: the scores of
attention are linear in the weights of query and key, wherever these are, and so know what to scale.
Only what keeps a tensor's scale (views, products, sums of terms with common origins) hands origins
on.  Functions are told by their public names (F.linear, Tensor.view), which versions of torch keep,
not by the operators that they become.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode

Tensor = TypeVar("Tensor")
Origins = dict[int, int]  # id of a parameter -> power

# Names of functions by what they do to a tensor's scale.
_KEEP = frozenset(
    "reshape view permute transpose unbind chunk split __getitem__ contiguous flatten unflatten "
    "squeeze unsqueeze expand repeat roll movedim moveaxis swapaxes t clone double float to "
    "dropout pad index_select narrow select tensor_split detach mean sum avg_pool2d "
    "adaptive_avg_pool2d window_partition neg __neg__ unfold view_as reshape_as expand_as type_as "
    "as_strided flip repeat_interleave take_along_dim gather interpolate upsample __get__ "
    "adjoint".split()
)
_PRODUCTS = frozenset(
    "mul mul_ __mul__ __rmul__ __imul__ multiply div div_ __truediv__ true_divide matmul "
    "__matmul__ __rmatmul__ bmm einsum".split()
)
_CURVED = frozenset("gelu silu hardswish mish tanh elu celu selu softplus glu erf".split())
_GATES = frozenset("sigmoid sigmoid_ hardsigmoid".split())
_SUMS = frozenset("add add_ __add__ __radd__ __iadd__ sub __sub__ cat concat stack".split())


class FollowsOrigins(TorchFunctionMode):
    """Hands origins on through a forward pass in float64.

    `handlers`: functions that a subclass runs itself, and tells the origins of.  Whatever asks for
    float32 gets float64.  `curved`, `gates`: ids of the parameters that scale what a curved
    function or a sigmoid gets.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.handlers: dict[Any, Callable[..., Any]] = {}
        self.curved: set[int] = set()
        self.gates: set[int] = set()
        self.parameters = {id(p): (name, p) for name, p in model.named_parameters()}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function of torch, in float64 wherever it would be in float32."""
        args, kwargs = _wide(args), _wide(kwargs or {})
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        handler = self.handlers.get(func)
        if handler is not None:
            return handler(func, *args, **kwargs)
        name = getattr(func, "__name__", "")
        if name in _CURVED or name in _GATES:
            for key, power in self.origins(args[0]).items():
                if power == 1:
                    (self.gates if name in _GATES else self.curved).add(key)
        value = func(*args, **kwargs)
        origins = self.follow(name, args, kwargs)
        measured = any(map(is_measured, _tensors(args, kwargs)))
        for result in value if isinstance(value, (tuple, list)) else (value,):
            give(result, origins, measured)
        return value

    def origins(self, value: Any) -> Origins:
        """The parameters in which a tensor is linear."""
        if id(value) in self.parameters:
            return {id(value): 1}
        return getattr(value, "_origins", {}) if isinstance(value, torch.Tensor) else {}

    def follow(self, name: str, args: Any, kwargs: Any) -> Origins:
        """Origins of what a function of this name makes of its arguments."""
        if name in _KEEP:
            return self.origins(args[0]) if args else {}
        found = _tensors(args, kwargs)
        if name in _PRODUCTS:
            total: Origins = {}
            for value in found:
                for key, power in self.origins(value).items():
                    total[key] = total.get(key, 0) + power
            return total
        if name in _SUMS and found:
            # Biases, tables and masks are no part of a scale; two branches have none in common.
            terms = [self.origins(value) for value in found if is_measured(value)]
            first, *rest = terms or [self.origins(found[0])]
            return {
                key: power
                for key, power in first.items()
                if all(term.get(key) == power for term in rest)
            }
        return {}


def measured(images: torch.Tensor) -> torch.Tensor:
    """Images as a pass takes them: what depends on them is told from tables and masks."""
    own = images.double()
    give(own, {}, True)
    return own


def is_measured(value: Any) -> bool:
    """Whether a tensor depends on the images."""
    return bool(getattr(value, "_measured", False))


def _tensors(args: Any, kwargs: Any) -> list[torch.Tensor]:
    return [
        value
        for argument in (*args, *kwargs.values())
        for value in (argument if isinstance(argument, (tuple, list)) else (argument,))
        if isinstance(value, torch.Tensor)
    ]


def give(value: Tensor, origins: Origins, measured: bool) -> Tensor:
    """A tensor, with its origins."""
    if isinstance(value, torch.Tensor) and not isinstance(value, torch.nn.Parameter):
        value._origins = origins  # type: ignore[attr-defined]
        value._measured = measured  # type: ignore[attr-defined]
    return value


def _wide(value: Any) -> Any:
    """Arguments with float64 for float32, whose last bit is another on another machine."""
    if value is torch.float32:
        return torch.float64
    if isinstance(value, torch.Tensor) or not isinstance(value, (tuple, list, dict)):
        return value
    if isinstance(value, dict):
        return {key: _wide(item) for key, item in value.items()}
    if hasattr(value, "_fields"):
        return value
    return type(value)(_wide(item) for item in value)
