"""Operator calls as a device dispatches them: whole where it has a kernel for the whole.

PyTorch takes composite operators (matmul, scaled_dot_product_attention, linear) apart before a
dispatch mode sees them, unless the tensors' own backend registers a kernel.  torch_npu registers
some, so that on the NPU they are one kernel, and a trace of the CPU's parts would judge kernels
that the device never runs.  A kernel that takes them apart, registered for the CPU while a pass
runs, has the dispatcher do on the CPU as it does for the device.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.library import _scoped_library

from harness.devices.dispatcher import COMPOSITE, has_kernel
from harness.execution import aten

# Whole for every device: what PyTorch makes of it on the CPU exists on the CPU alone.
_ALWAYS = (aten.ATTENTION,)


@contextlib.contextmanager
def as_on(device: torch.device) -> Iterator[None]:
    """While inside, composites that a device has kernels for are one call on the CPU as well."""
    with as_one({*_ALWAYS, *_whole(torch._C._dispatch_key_for_device(device.type))}):
        yield


@contextlib.contextmanager
def as_one(composites: Iterable[Any]) -> Iterator[None]:
    """While inside, these composites are one call on the CPU."""
    with _scoped_library("aten", "IMPL") as library:
        for func in composites:
            library.impl(func.name().removeprefix("aten::"), _parts_of(func), "CPU")
        yield


def _parts_of(func: Any) -> Any:
    return lambda *args, **kwargs: func.decompose(*args, **kwargs)


@functools.cache
def _whole(key: str) -> tuple[Any, ...]:
    """Composite operators with a kernel of a backend's own that the CPU has none for."""
    if key in ("CPU", "Meta"):
        return ()
    found = []
    for name in torch._C._dispatch_get_all_op_names():
        if not (
            name.startswith("aten::") and has_kernel(name, key) and has_kernel(name, COMPOSITE)
        ):
            continue
        packet, _, overload = name.removeprefix("aten::").partition(".")
        func = getattr(getattr(torch.ops.aten, packet), overload or "default")
        schema = func._schema
        # What may give back or write to its arguments is no kernel's own result.
        aliases = any(value.alias_info for value in (*schema.returns, *schema.arguments))
        if not aliases and not has_kernel(name, "CPU"):
            found.append(func)
    return tuple(found)
