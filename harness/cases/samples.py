"""The arguments of forward passes: tensors of several samples, and where they go in a call.

A timm model takes one tensor of images; a module of a user's own takes whatever its forward does:
several tensors, by position or by name, inside tuples and dicts, beside other values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclasses.dataclass(frozen=True)
class Slot:
    """The place of a tensor among the values of a call."""

    name: str


class Arguments:
    """One call: what stands between the brackets of `forward(...)`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args
        self.kwargs = kwargs

    @classmethod
    def of(cls, given: Any) -> Arguments:
        """A tuple holds positional arguments, a mapping named ones; else it is the only one."""
        if isinstance(given, cls):
            return given
        if type(given) is tuple:  # a named one is a value of a model's own
            return cls(*given)
        if isinstance(given, Mapping) and all(isinstance(key, str) for key in given):
            return cls(**given)
        return cls(given)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Every tensor by its place: "args[0]", "mask", "boxes[1]"."""
        import torch

        found: dict[str, torch.Tensor] = {}
        self._mapped(lambda name, leaf: found.update({name: leaf}) if isinstance(leaf, torch.Tensor)
                     else None)  # fmt: skip
        return found

    def pattern(self) -> tuple[Any, Any]:
        """The call with slots for its tensors, as (args, kwargs)."""
        import torch

        return self._mapped(
            lambda name, leaf: Slot(name) if isinstance(leaf, torch.Tensor) else leaf
        )

    def _mapped(self, leaf: Callable[[str, Any], Any]) -> tuple[Any, Any]:
        args = tuple(mapped(leaf, item, f"args[{i}]") for i, item in enumerate(self.args))
        return args, {name: mapped(leaf, item, name) for name, item in self.kwargs.items()}


def mapped(leaf: Callable[[str, Any], Any], value: Any, name: str) -> Any:
    """Apply `leaf(name, value)` inside tuples, named ones too, lists, dicts and dataclasses."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        items = {field: getattr(value, field) for field in value._fields}
        return type(value)(**{key: mapped(leaf, item, f"{name}.{key}")
                              for key, item in items.items()})  # fmt: skip
    if type(value) in (tuple, list):
        return type(value)(mapped(leaf, item, f"{name}[{i}]") for i, item in enumerate(value))
    if type(value) is dict:
        return {key: mapped(leaf, item, f"{name}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, (type, Slot)):
        fields = {field.name for field in dataclasses.fields(value) if field.init}
        return dataclasses.replace(
            value,
            **{key: mapped(leaf, getattr(value, key), f"{name}.{key}") for key in fields},
        )
    return leaf(name, value)


@dataclasses.dataclass(frozen=True)
class Samples:
    """Arguments for N samples.

    `tensors`: name -> [N, ...]; `args`, `kwargs`: a call, with slots where the tensors go.
    `apart`: every sample is a call of its own, whose tensors lack the first dimension; else the
    first dimension is that of a batch.
    """

    tensors: Mapping[str, torch.Tensor]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    apart: bool = False

    @classmethod
    def of(cls, given: Samples | torch.Tensor) -> Samples:
        """Images [N, ...] are the only argument of a model."""
        return given if isinstance(given, cls) else cls({"images": given}, (Slot("images"),))  # type: ignore[dict-item]

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, ...] of the first tensor."""
        return tuple(next(iter(self.tensors.values())).shape)

    def mapped(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Samples:
        """The same with every tensor changed."""
        tensors = {name: change(tensor) for name, tensor in self.tensors.items()}
        return dataclasses.replace(self, tensors=tensors)

    def rows(self, chosen: slice | Sequence[int]) -> Samples:
        """Some of the samples."""
        return self.mapped(lambda tensor: tensor[chosen])

    def backwards(self) -> Samples:
        """The samples in reverse order."""
        return self.mapped(lambda tensor: tensor.flip(0))

    def filled(self, batch_size: int) -> Samples:
        """The samples repeated in order to the next multiple of a batch size, at least one."""
        count = -(-len(self) // batch_size) * batch_size
        return self.rows([row % len(self) for row in range(count)])

    def batches(self, batch_size: int) -> Iterator[Samples]:
        """The samples in order, `batch_size` at a time."""
        for start in range(0, len(self), batch_size):
            yield self.rows(slice(start, start + batch_size))

    def call(self, model: Callable[..., Any]) -> Any:
        """Call a model with all of them as one batch; the only one, where they stand apart."""

        def filled(name: str, leaf: Any) -> Any:
            if not isinstance(leaf, Slot):
                return leaf
            tensor = self.tensors[leaf.name]
            return tensor[0] if self.apart else tensor

        args = [mapped(filled, item, "") for item in self.args]
        return model(*args, **{key: mapped(filled, item, "") for key, item in self.kwargs.items()})


def stacked(calls: Iterable[Arguments]) -> Samples | None:
    """Several calls as samples that stand apart; None where they differ in more than numbers."""
    import torch

    found = list(calls)
    tensors = [call.tensors() for call in found]
    forms = [{name: (t.shape, t.dtype) for name, t in one.items()} for one in tensors]
    args, kwargs = found[0].pattern()
    if any(form != forms[0] for form in forms) or any(
        not _same(call.pattern(), (args, kwargs)) for call in found[1:]
    ):
        return None
    joined = {name: torch.stack([one[name] for one in tensors]) for name in tensors[0]}
    return Samples(joined, args, kwargs, apart=True)


def _same(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # a value of the user's own
        return False
