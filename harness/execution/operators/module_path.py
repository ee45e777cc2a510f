"""Which module of a model is running."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterator
from typing import Any

import torch


class ModulePath:
    """Knows the innermost module that is running, and which of its calls it is."""

    def __init__(self) -> None:
        self._stack: list[str] = []
        self._calls: collections.Counter[str] = collections.Counter()

    @property
    def current(self) -> str:
        """Path of the module, with "#2" in its second call; "(model)" outside of all."""
        return self._stack[-1] if self._stack else "(model)"

    @contextlib.contextmanager
    def watching(self, model: torch.nn.Module) -> Iterator[None]:
        """Follow a model's forward pass."""
        handles = []
        for path, module in model.named_modules():
            if path:
                handles.append(module.register_forward_pre_hook(self._enter(path)))
                handles.append(module.register_forward_hook(self._leave))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, path: str) -> Any:
        def hook(module: torch.nn.Module, args: Any) -> None:
            self._calls[path] += 1
            call = self._calls[path]
            self._stack.append(path if call == 1 else f"{path}#{call}")

        return hook

    def _leave(self, module: torch.nn.Module, args: Any, output: Any) -> None:
        self._stack.pop()
