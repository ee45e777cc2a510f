"""The model whose legs the CPU's side runs: loaded once, its weights shared by all of them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from harness.cases.models.loading import LoadedModel
from harness.cases.needed_memory import KEPT
from harness.execution.own_module import AnyModel, OwnModule
from harness.execution.reference import keys
from harness.execution.reference.keys import Key
from harness.system.status import CaseProblem


class HeldModels:
    """Loads models, and keeps the last one while its files stay what they were.

    A leg gets a copy of its own that shares the weights: no leg writes to them, but puts others
    in their place.  One of more than `KEPT` bytes is let go of between requests.
    """

    def __init__(self) -> None:
        self._last: tuple[Key, LoadedModel, list[int]] | None = None

    def key(self, model: AnyModel) -> Key | None:
        """What loading depends on; None for a model that cannot be loaded."""
        return key_or_none(lambda: keys.model_key(model))

    def original(self, model: AnyModel) -> LoadedModel:
        """A model to look at only.  Raises as `ModelFiles.load` does."""
        key = self.key(model)
        if self._last is None or self._last[0] != key or self._last[2] != _versions(self._last[1]):
            self._last = None  # its memory may be needed
            loaded = model.load()
            if key is None or self.key(model) != key:
                return loaded
            self._last = (key, loaded, _versions(loaded))
        return self._last[1]

    def release(self) -> None:
        """Keep no large model."""
        if self._last is not None and _bytes(self._last[1]) > KEPT:
            self._last = None

    def own(self, model: AnyModel) -> LoadedModel:
        """A model that a leg may change, but for the numbers in its parameters.

        Raises as `ModelFiles.load` does.
        """
        loaded = self.original(model)
        if self._last is None or self._last[1] is not loaded:
            return loaded
        shared: dict[int, Any] = {}
        if not isinstance(model, OwnModule):  # whose code may write to weights unseen
            shared = {id(one): _sharing(one) for one in loaded.model.parameters()}
        return dataclasses.replace(loaded, model=copy.deepcopy(loaded.model, shared))


def _versions(loaded: LoadedModel) -> list[int]:
    """What changes when a forward pass writes to a parameter, here or through a copy."""
    return [parameter._version for parameter in loaded.model.parameters()]


def _sharing(parameter: torch.nn.Parameter) -> torch.nn.Parameter:
    """A parameter of its own on the same numbers."""
    return torch.nn.Parameter(parameter.detach(), requires_grad=False)


def _bytes(loaded: LoadedModel) -> int:
    tensors = (*loaded.model.parameters(), *loaded.model.buffers())
    return sum(tensor.nbytes for tensor in tensors)


def key_or_none(make: Callable[[], Key]) -> Key | None:
    """A key, or None for a model that cannot be loaded: loading it says why."""
    try:
        return make()
    except (CaseProblem, OSError):
        return None
