"""torch.autocast: which operators a device's policy casts, measured, and the same on the CPU.

A backend registers its policy with the dispatcher, operator by operator, under a key of its own;
that of torch_npu is in its C++ code (AutoCastOps.cpp) and differs from the CPU's and CUDA's.  What
a registered kernel does is seen from outside: it is called under autocast with tensors of known
dtypes, and a dispatch mode below it sees which casts come out, before the operator itself would
run.  On the CPU the policy is imitated where the dispatcher asks: kernels that do the same stand in
for the CPU's own while a pass runs.
"""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch.library import _scoped_library, fallthrough_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from harness.devices.dispatcher import has_kernel
from harness.judgement.arithmetic import AUTOCAST, AutocastPolicy

_AUTOCAST_CPU = "AutocastCPU"
_COPY = torch.ops.aten._to_copy.default


def of(dtype: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """What a forward pass of a case's `dtype` runs in: autocast where it asks for that."""
    if not dtype.startswith(AUTOCAST):
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, dtype.removeprefix(AUTOCAST)))


def measure(device: torch.device, dtype: str) -> AutocastPolicy:
    """The policy of a device for `dtype` ("float16" or "bfloat16").  Runs none of the operators."""
    short: torch.dtype = getattr(torch, dtype)
    key = f"Autocast{torch._C._dispatch_key_for_device(device.type)}"
    found: dict[str, list[str]] = {"short": [], "single": [], "widest": []}
    for name in _registered(key):
        func = _operator(name)
        if short in _casts(func, device, short, torch.float32):
            found["short"].append(name)
        elif torch.float32 in _casts(func, device, short, short):
            found["single"].append(name)
        elif torch.float32 in _casts(func, device, short, short, torch.float32):
            found["widest"].append(name)
    return AutocastPolicy(dtype, **{kind: tuple(names) for kind, names in found.items()})


def _registered(key: str) -> list[str]:
    names = torch._C._dispatch_get_all_op_names()
    return sorted(
        name.removeprefix("aten::")
        for name in names
        if name.startswith("aten::") and has_kernel(name, key)
    )


def _operator(name: str) -> Any:
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), overload or "default")


class _Seen(Exception):
    """The operator itself was reached."""


class _Casts(TorchDispatchMode):
    """Lets casts through, notes their dtypes and those that the operator is given, and stops."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dtypes: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        values = (*args, *kwargs.values())
        self.dtypes.update(value for value in values if isinstance(value, torch.dtype))
        if func is not _COPY:
            raise _Seen
        return func(*args, **kwargs)


def _casts(
    func: Any, device: torch.device, short: torch.dtype, *given: torch.dtype
) -> set[torch.dtype]:
    """Dtypes that autocast asks for when an operator gets tensors of `given`, in turns."""
    tensors = (torch.ones(1, 1, device=device, dtype=dtype) for dtype in itertools.cycle(given))
    args, kwargs = [], {}
    for argument in func._schema.arguments:
        value = _value(argument, tensors)
        if argument.kwarg_only:
            kwargs[argument.name] = value
        else:
            args.append(value)
    seen = _Casts()
    # What an operator says of arguments that make no sense for it comes after the casts.
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.autocast(device.type, dtype=short), seen:
            func(*args, **kwargs)
    return seen.dtypes


def _value(argument: Any, tensors: Iterator[torch.Tensor]) -> Any:
    """Something of an argument's type; its tensors are what counts."""
    kind = str(argument.type)
    if "Tensor" in kind:
        return [next(tensors), next(tensors)] if "List" in kind else next(tensors)
    if argument.has_default_value():
        return argument.default_value
    if "Optional" in kind:
        return None
    plain: dict[str, Any] = {"int": 0, "float": 1.0, "number": 1.0, "bool": False, "str": "fro"}
    return [1] if "List" in kind else plain.get(kind)


class Casting(Protocol):
    """How numbers are held that autocast casts, and what a cast is."""

    def cast(self, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """A tensor in a dtype."""

    def dtype_of(self, tensor: torch.Tensor) -> torch.dtype:
        """The dtype that it counts as."""


class _Plain:
    """Casts that are casts."""

    def cast(self, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        return tensor.to(dtype)

    def dtype_of(self, tensor: torch.Tensor) -> torch.dtype:
        return tensor.dtype


@contextlib.contextmanager
def imitated(policy: AutocastPolicy, casting: Casting | None = None) -> Iterator[None]:
    """While inside, the CPU casts as a device's policy says.

    Operators compute in float32 and round their results to the short dtype, as in
    `imitation.Imitation`; with `casting` that is left to the caller, who holds the numbers.
    """
    how = casting or _Plain()
    short: torch.dtype = getattr(torch, policy.dtype)
    kernels: dict[str, Callable[..., Any]] = {
        name: fallthrough_kernel for name in _registered(_AUTOCAST_CPU)
    }
    kernels |= {name: _kernel(name, how, lambda args: short) for name in policy.short}
    kernels |= {name: _kernel(name, how, lambda args: torch.float32) for name in policy.single}
    kernels |= {name: _kernel(name, how, _widest) for name in policy.widest}
    with _scoped_library("aten", "IMPL") as library, contextlib.ExitStack() as stack:
        with warnings.catch_warnings():  # kernels of the CPU's own are replaced: on purpose
            warnings.simplefilter("ignore")
            for name, kernel in kernels.items():
                library.impl(name, kernel, _AUTOCAST_CPU)
        stack.enter_context(torch.autocast("cpu", dtype=short, cache_enabled=False))
        if casting is None:
            stack.enter_context(_Rounds(short))
        yield


def _kernel(
    name: str, how: Casting, target: Callable[[list[torch.dtype]], torch.dtype]
) -> Callable[..., Any]:
    func, below = _operator(name), torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)

    def kernel(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(below):
            leaves = _leaves((args, kwargs))
            dtype = target([how.dtype_of(leaf) for leaf in leaves if _eligible(leaf)])
            args, kwargs = tree_map_only(
                torch.Tensor,
                lambda leaf: how.cast(leaf, dtype) if _eligible(leaf) else leaf,
                (args, kwargs),
            )
            return func(*args, **kwargs)

    return kernel


def _eligible(tensor: torch.Tensor) -> bool:
    """Whether autocast casts a tensor: float64 stays."""
    return tensor.is_floating_point() and tensor.dtype != torch.float64


def _widest(dtypes: list[torch.dtype]) -> torch.dtype:
    if torch.float32 in dtypes:
        return torch.float32
    return dtypes[0] if dtypes else torch.float32


def _leaves(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(value)
            if isinstance(leaf, torch.Tensor)]  # fmt: skip


class _Rounds(TorchDispatchMode):
    """Computes what has short arguments alone in float32, and rounds the result once."""

    def __init__(self, short: torch.dtype) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._short = short

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        floats = [leaf for leaf in _leaves((args, kwargs)) if leaf.is_floating_point()]
        plain = func is _COPY or func.is_view or func._schema.is_mutable or kwargs.get("dtype")
        if plain or not floats or any(leaf.dtype != self._short for leaf in floats):
            return func(*args, **kwargs)
        args, kwargs = self._cast((args, kwargs), self._short, torch.float32)
        return self._cast(func(*args, **kwargs), torch.float32, self._short)

    def _cast(self, value: Any, old: torch.dtype, new: torch.dtype) -> Any:
        return tree_map_only(
            torch.Tensor, lambda leaf: leaf.to(new) if leaf.dtype == old else leaf, value
        )
