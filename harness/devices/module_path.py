"""Which module of a model is running."""

from __future__ import annotations

import collections
import contextlib
import fnmatch
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def within(path: str, pattern: str) -> bool:
    """Whether a module, or one that it lies in, matches a glob: "blocks.3" has "blocks.3.attn"."""
    parts = path.split(".")
    return bool(path) and any(
        fnmatch.fnmatchcase(".".join(parts[:end]), pattern) for end in range(1, len(parts) + 1)
    )


class ModulePath:
    """Knows the innermost module that is running, and which of its calls it is."""

    def __init__(self, on_change: Callable[[str], None] = lambda path: None) -> None:
        """`on_change` gets the path of what runs from now on, "" outside of all modules."""
        self._stack: list[tuple[str, int]] = []
        self._calls: collections.Counter[str] = collections.Counter()
        self._on_change = on_change

    @property
    def current(self) -> str:
        """Path of the module, with "#2" in its second call; "(model)" outside of all."""
        if not self._stack:
            return "(model)"
        path, call = self._stack[-1]
        return path if call == 1 else f"{path}#{call}"

    @property
    def path(self) -> str:
        """Path of the module, whichever of its calls it is; "" outside of all."""
        return self._stack[-1][0] if self._stack else ""

    @contextlib.contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
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
            self._stack.clear()  # a pass that was cut short
            self._on_change("")

    def _enter(self, path: str) -> Any:
        def hook(module: nn.Module, args: Any) -> None:
            self._calls[path] += 1
            self._stack.append((path, self._calls[path]))
            self._on_change(path)

        return hook

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self._stack.pop()
        self._on_change(self.path)
