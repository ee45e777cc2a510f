"""Operator calls of a forward pass, one after another, as a device dispatches them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harness.devices.module_path import ModulePath
from harness.execution.operators.calls import Call

# Gets a call, its place in the pass and the module; answers with the call's result.
OnCall = Callable[[Call, int, str], Any]


class _Recorder(TorchDispatchMode):
    def __init__(self, on_call: OnCall) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.modules = ModulePath()
        self._on_call = on_call
        self._calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        index, self._calls = self._calls, self._calls + 1
        return self._on_call(Call(func, args, kwargs or {}), index, self.modules.current)


@contextlib.contextmanager
def recording(
    model: torch.nn.Module, whole: contextlib.AbstractContextManager[None], on_call: OnCall
) -> Iterator[None]:
    """Have `on_call` run every operator call of a model's forward pass on the CPU.

    `whole`: which composites are one call (`dispatch.py`).
    """
    recorder = _Recorder(on_call)
    with (
        torch.no_grad(),
        whole,
        recorder.modules.watching(model),
        recorder,
    ):
        yield
