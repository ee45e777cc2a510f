"""Every rounding of a forward pass in a reduced arithmetic, noted where it happens.

The pass runs in float32 with its numbers rounded as the arithmetic does it, and with a graph, so
that each rounding can be carried to the outputs (`shares.py`).  Numbers beyond the format's range
keep their value, so that what comes after the first of them can be seen as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.autograd import _get_sequence_nr  # type: ignore[attr-defined]
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness.devices.module_path import ModulePath
from harness.execution import aten, gelu
from harness.execution.imitation import Imitation, round_mantissa, storage_dtype
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.shares import What
from harness.system.messages import say

# What these return beside their result is for the backward pass alone, which needs it exact.
_ONE_RESULT = ("norm", "attention")
_STATISTICS = (3, 4)  # arguments of a batch norm


@dataclasses.dataclass
class Point:
    """A rounding point while it is measured."""

    what: What
    name: str
    module: str
    squares: list[float]
    modules: set[str] = dataclasses.field(default_factory=set)
    error: torch.Tensor | None = None  # freed after its pass
    shortened: bool = False
    node: int = -1
    place: int = 0  # which of the operator's results
    channels: bool = False  # one number errs for a whole channel of the result
    beyond: int = 0


def short_dtype(arithmetic: Arithmetic) -> torch.dtype:
    """The dtype that results are rounded to: the stored one, or the one that autocast casts to."""
    policy = arithmetic.autocast
    dtype: torch.dtype = getattr(torch, policy.dtype) if policy else storage_dtype(arithmetic)
    return dtype


class Casts:
    """Which numbers are in autocast's short dtype, all of them held in float32.

    A cast is a copy, whose derivative is one; a number is short when it is the copy of a cast to
    the short dtype, or the result of an operator all of whose numbers are.
    """

    def __init__(self, short: torch.dtype) -> None:
        self._dtype = short
        self._short: set[int] = set()
        self._casting: bool | None = None  # the copy that runs is a cast, to the short dtype or not

    def cast(self, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """A tensor in `dtype`, float32 or the short one."""
        if self.dtype_of(tensor) == dtype:
            return tensor
        self._casting = dtype == self._dtype
        try:
            return tensor.clone()
        finally:
            self._casting = None

    def dtype_of(self, tensor: torch.Tensor) -> torch.dtype:
        """float32 or the short one."""
        return self._dtype if memory_of(tensor) in self._short else torch.float32

    def gives_short(self, given: Sequence[torch.Tensor], kwargs: Mapping[str, Any]) -> bool:
        """Whether an operator's result is in the short dtype, by PyTorch's promotion of types."""
        if self._casting is not None:
            return self._casting
        floats = [tensor for tensor in given if tensor.is_floating_point()]
        floats = [tensor for tensor in floats if tensor.dim()] or floats
        if not floats or kwargs.get("dtype") == torch.float32:
            return False
        return all(memory_of(tensor) in self._short for tensor in floats)

    def note(self, tensor: torch.Tensor, *, short: bool) -> None:
        """What an operator gave."""
        (self._short.add if short else self._short.discard)(memory_of(tensor))


class Recorder(TorchDispatchMode):
    """Rounds a forward pass' results, and notes each rounding with its node of the graph.

    `points`: the roundings; `steps`: for every result that could be rounded its operator, and its
    point where it was; `order`: modules as they first run operators.
    """

    def __init__(
        self,
        arithmetic: Arithmetic,
        weights: Mapping[torch.Tensor, Point],
        casts: Casts | None,
    ) -> None:
        """`weights`: the points of parameters and buffers; `casts`: of autocast, None without."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.modules = ModulePath()
        self.points: list[Point] = []
        self.steps: list[tuple[str, Point | None]] = []
        self.order: dict[str, None] = {}
        self._arithmetic = arithmetic
        self._casts = casts
        self._store = short_dtype(arithmetic)
        self._short = arithmetic.dtype != "float32"
        self._factors = arithmetic.short_conv is not None or arithmetic.short_matmul is not None
        # Whose number lies in a memory: views share it, and what is written to it takes it over.
        self._owners: dict[int, Point] = {
            memory_of(parameter): point for parameter, point in weights.items()
        }
        self._parameters = {memory_of(parameter): parameter for parameter in weights}
        self._alive: list[torch.Tensor] = []  # no memory is used twice
        self._cloned: int | None = None  # node of the last call, where that was a copy

    def consumed(self, tensor: torch.Tensor, module: str) -> None:
        """A number goes to a module, "" for out of the model or to the model's own code."""
        owner = self._owners.get(memory_of(tensor))
        if owner is not None:
            owner.modules.add(module)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operator and round what it gives."""
        kwargs = gelu.declared(func, kwargs or {}, self._arithmetic.gelu)
        # Autograd made the operator's node just before it came here; one that writes to what its
        # derivative needs made a copy of that in between, which has a node as well.
        node = latest = _get_sequence_nr() - 1
        if func._schema.is_mutable and self._cloned == latest:
            node -= 1
        self._cloned = latest if func.name() == "aten::clone" else None
        module = self.modules.path
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if func.name() != "aten::detach":
            self.order.setdefault(module)
            for tensor in given:
                self.consumed(tensor, module)
        other = self._with_short_factors(func, args, kwargs) if self._factors else None
        short = self._short or (self._casts is not None and self._casts.gives_short(given, kwargs))
        result = func(*args, **kwargs)
        if func.is_view:
            return result
        if self._short and "batch_norm" in func.name():
            self._of_statistics(func, args, kwargs, result, node)
        follows = any(tensor.requires_grad for tensor in given)
        for place, tensor in results_of(func, result):
            self._alive.append(tensor)
            if self._casts is not None:
                self._casts.note(tensor, short=short)
            point = None
            if short:
                point = self._noted(func, given)
                point.error, point.beyond = rounding_of(tensor, self._store)
                self._owners[memory_of(tensor)] = point
            elif other is not None:
                # Its own module alone has to compute otherwise for it to vanish.
                point = self._noted(func, given)
                point.error = tree_leaves(other)[place].sub_(tensor)
            if point is not None and point.error is not None:
                tensor.add_(point.error)
                point.node, point.place = (node if follows else -1), place
            self.steps.append((func.name(), point))
        return result

    def _noted(self, func: Any, given: Sequence[torch.Tensor]) -> Point:
        """The point of an operator's result."""
        module = self.modules.path
        point = Point("result", func.name().removesuffix(".default"), module, [])
        owner = self._owners.get(memory_of(given[0])) if self._casts and given else None
        if owner is not None and owner.what == "weight" and func.name() == "aten::clone":
            point = Point("weight", owner.name, module, [])  # cast where it is used
        point.modules.add(module)
        self.points.append(point)
        return point

    def _of_statistics(self, func: Any, args: Any, kwargs: Any, result: Any, node: int) -> None:
        """Note what the rounding of a batch norm's mean and variance changes in its result."""
        exact = list(args)
        for place in _STATISTICS:
            owner = self._owners.get(memory_of(args[place])) if args[place] is not None else None
            if owner is None or owner.what != "weight" or owner.error is None:
                return
            exact[place] = args[place] - owner.error
        module = self.modules.path
        point = Point("weight", f"{module}.running_mean, running_var", module, [])
        point.modules.add(module)
        point.error = result[0] - func(*exact, **kwargs)[0]
        point.node, point.channels = node, True
        self.points.append(point)

    def _with_short_factors(self, func: Any, args: Any, kwargs: Any) -> Any:
        """A product's result with shortened factors; a weight is shortened for good, and noted."""
        form = self._arithmetic.factors(aten.kind(func))
        if form is None:
            return None
        for place in aten.factors(func):
            memory = memory_of(args[place])
            weight = self._owners.get(memory)
            if weight is not None and weight.what == "weight" and not weight.shortened:
                parameter = self._parameters[memory].detach()
                rounded = round_mantissa(parameter, form)
                weight.error, weight.shortened = rounded - parameter, True
                parameter.copy_(rounded)
        with Imitation(dataclasses.replace(self._arithmetic, autocast=None)):
            return func(*args, **kwargs)


class Added(TorchDispatchMode):
    """Runs a pass that a `Recorder` saw without rounding, with parts of the noted errors added."""

    def __init__(
        self,
        steps: Sequence[tuple[str, Point | None]],
        part: float,
        left: Callable[[Point], bool],
        arithmetic: Arithmetic,
        casts: Casts | None,
    ) -> None:
        """`part`: of each error; `left`: which points count.

        Raises ValueError inside when the pass runs other operators.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._steps = iter(steps)
        self._part, self._left = part, left
        self._gelu, self._casts = arithmetic.gelu, casts
        self._alive: list[torch.Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operator and add to what it gives."""
        kwargs = gelu.declared(func, kwargs or {}, self._gelu)
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        short = self._casts is not None and self._casts.gives_short(given, kwargs)
        result = func(*args, **kwargs)
        if func.is_view:
            return result
        for _, tensor in results_of(func, result):
            if self._casts is not None:
                self._casts.note(tensor, short=short)
                self._alive.append(tensor)
            name, point = next(self._steps, ("", None))
            if name != func.name() or (point and point.error is not None
                                       and point.error.shape != tensor.shape):  # fmt: skip
                english = "the model runs other operators when its numbers differ a little"
                raise ValueError(say("shares.turns", english))
            if point is not None and point.error is not None and self._left(point):
                tensor.add_(point.error, alpha=self._part)
        return result


def results_of(func: Any, result: Any) -> Iterator[tuple[int, torch.Tensor]]:
    """The numbers that an operator gives the model, with their places among its results."""
    first = any(part in func.name() for part in _ONE_RESULT)
    for place, tensor in enumerate(tree_leaves(result)):
        if not isinstance(tensor, torch.Tensor) or tensor.dtype != torch.float32:
            continue
        if not (place and first) and tensor.numel():
            yield place, tensor


def rounding_of(tensor: torch.Tensor, store: torch.dtype) -> tuple[torch.Tensor, int]:
    """What a format changes in a float32 tensor, and how many numbers are beyond its range.

    The change is exact in float32, and so is the sum of both: a number and its rounding are within
    a factor of two of each other, or the rounding is zero (Sterbenz).  For numbers beyond the
    range there is none.
    """
    error = torch.sub(tensor.to(store), tensor)  # in float32, by promotion of types
    if bool(torch.isfinite(error.sum())):
        return error, 0
    finite = torch.isfinite(error)
    beyond = ~finite & torch.isfinite(tensor)
    return torch.where(finite, error, 0.0), int(beyond.sum())


def memory_of(tensor: torch.Tensor) -> int:
    """What tells a tensor's memory from others' while it lives."""
    return int(tensor.untyped_storage()._cdata)
