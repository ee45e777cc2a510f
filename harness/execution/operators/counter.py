"""Counts the aten operators that a forward pass executes, and takes the ranges of their inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harness.cases.models.range_meter import RangeMeter


class OperatorCounter(TorchDispatchMode):
    """Counts the aten operators executed inside it, in the order of their first call.

    `failed`: the last one that raised, "" when none did; `gelu`: values of `approximate` of those
    that are GELU; `meter`: takes the inputs of nonlinear operators, where it is given.
    """

    def __init__(self, meter: RangeMeter | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._meter = meter
        self.counts: dict[str, int] = {}
        self.failed = ""
        self.gelu: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = f"{func._schema.name}.{func._overloadname}"
        self.counts[name] = self.counts.get(name, 0) + 1
        if func is torch.ops.aten.gelu.default:
            self.gelu.add((kwargs or {}).get("approximate", "none"))
        if self._meter is not None:
            self._meter.see(func, args, kwargs or {})
        try:
            return func(*args, **(kwargs or {}))
        except Exception:
            self.failed = name
            raise
