"""Measures what every rounding of a reduced arithmetic contributes to a model's outputs.

One forward pass in float32 whose numbers are rounded as the arithmetic does it, each rounding
noted: e, what it changes.  For a random direction v of an output (its elements +1 or -1, each with
even chance) one backward pass gives g, the gradient of v . output by every rounded number.  With
J the derivative of the output by them, g = J^T v, and over directions

    E sum_k g_k^2 e_k^2 = sum_k |J_k|^2 e_k^2,

which is the mean square of what independent roundings of the size of e cause in the output
(Hutchinson's estimator, Communications in Statistics 19:433, 1990, of a diagonal).  All images go
into one direction, each with signs of its own, so that six images are six samples.

Statistics of a batch norm have no derivative in PyTorch: what their rounding changes in its result
is taken instead, channel by channel, since one number errs alike everywhere.

The model's numbers follow the rounded forward pass, as on a device; numbers beyond the format's
range keep their value, so that what comes after the first of them can be seen as well.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.autograd import _get_sequence_nr  # type: ignore[attr-defined]
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness.cases.samples import Samples
from harness.devices.module_path import ModulePath
from harness.execution import aten, gelu, outputs
from harness.execution.imitation import Imitation, round_mantissa, storage_dtype
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.shares import DIRECTIONS, IMAGES, RoundingPoint, Shares, What
from harness.system.messages import say

_TOGETHER = 4  # images in one pass: its graph holds every activation
# What these return beside their result is for the backward pass alone, which needs it exact.
_ONE_RESULT = ("norm", "attention")
_STATISTICS = (3, 4)  # arguments of a batch norm


@dataclasses.dataclass
class _Point:
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


def measure(
    model: nn.Module,
    given: Samples,
    arithmetic: Arithmetic,
    names: Sequence[str] = ("output",),
    directions: int = DIRECTIONS,
    taps_features: bool = True,
    most_weights: float = math.inf,
) -> Shares:
    """Measure a model's shares for the outputs called `names`.

    `model`: float32, on the CPU, in eval mode; its weights are rounded, and so it is not to be used
    again.  `given`: samples, float32, of which the first `IMAGES` count.  Raises ValueError for
    an output of no floating-point numbers, autocast, and more weights than `most_weights`.
    """
    if sum(parameter.numel() for parameter in model.parameters()) > most_weights:
        most, english = f"{most_weights / 1e6:g}", "the model has more than {most} million weights"
        raise ValueError(say("shares.large", english, most=most))
    if arithmetic.autocast is not None:
        raise ValueError(say("shares.autocast", "autocast has no shares"))
    samples = given.rows(slice(IMAGES)) if not given.apart else given
    measured = _Measured(model, arithmetic, names, directions)
    with torch.random.fork_rng(devices=[]), _parameters_differentiable(model):
        torch.manual_seed(0)
        measured.round_weights()
        for batch in [samples] if samples.apart else samples.batches(_TOGETHER):
            measured.add(batch, taps_features=taps_features)
    return measured.shares()


@contextlib.contextmanager
def _parameters_differentiable(model: nn.Module) -> Iterator[None]:
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        with torch.enable_grad():
            yield
    finally:
        for parameter, needed in before:
            parameter.requires_grad_(needed)


class _Measured:
    """Sums over batches and directions."""

    def __init__(
        self, model: nn.Module, arithmetic: Arithmetic, names: Sequence[str], directions: int
    ) -> None:
        self._model = model
        self._arithmetic = arithmetic
        self._store = storage_dtype(arithmetic)
        self._names = tuple(names)
        self._directions = directions
        self._elements = [0] * len(self._names)
        self._results: list[_Point] = []
        self._weights: dict[torch.Tensor, _Point] = {}
        self._input = self._point("input", "", "")
        self._input.modules.add("")  # nobody hands it over in float32
        self._order: dict[str, None] = {}

    def _point(self, what: What, name: str, module: str) -> _Point:
        return _Point(what, name, module, [0.0] * len(self._names))

    def round_weights(self) -> None:
        """Store parameters and buffers in the format, and note what that changes."""
        for name, parameter in (*self._model.named_parameters(), *self._model.named_buffers()):
            if parameter.dtype != torch.float32 or parameter in self._weights:
                continue
            point = self._point("weight", name, name.rpartition(".")[0])
            with torch.no_grad():
                rounded, point.beyond = _rounded(parameter, self._store)
                point.error = rounded - parameter
                # Its own memory: other models may share the one that it came with.
                parameter.data = rounded.clone()
            parameter.requires_grad_(not name.endswith(("running_mean", "running_var")))
            self._weights[parameter] = point

    def add(self, batch: Samples, *, taps_features: bool) -> None:
        """One batch: a forward pass, and a backward pass for each direction of each output."""
        inputs: list[tuple[torch.Tensor, torch.Tensor]] = []

        def stored(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.dtype != torch.float32:
                return tensor
            rounded, beyond = _rounded(tensor, self._store)
            self._input.beyond += beyond
            inputs.append((rounded.requires_grad_(True), rounded.detach() - tensor))
            return rounded

        recorder = _Recorder(self._arithmetic, self._weights)
        features: list[Any] = []
        inner = getattr(self._model, "forward_features", None) if taps_features else None
        if callable(inner):

            def tapped(*args: Any, **kwargs: Any) -> Any:
                features[:] = [inner(*args, **kwargs)]
                return features[0]

            self._model.forward_features = tapped  # type: ignore[assignment]
        placed = batch.mapped(stored)
        try:
            with recorder.modules.watching(self._model), recorder:
                value = placed.call(self._model)
        finally:
            if callable(inner):
                self._model.forward_features = inner
        found = dict(outputs.flatten(value, rows=not batch.apart))
        found |= dict(outputs.flatten(outputs.tensors(features[0]), "forward_features")
                      if features else {})  # fmt: skip
        for tensor in found.values():
            recorder.consumed(tensor, "")
        self._order.update(dict.fromkeys(recorder.order))
        points = self._merge(recorder.points)
        for number, name in enumerate(self._names):
            end = found.get(name)
            if end is None or not end.is_floating_point() or end.grad_fn is None:
                english = "the model gives no {name} that follows from its input"
                raise ValueError(say("shares.no_output", english, name=name))
            self._elements[number] += end.numel()
            self._backward(number, end, recorder.points, points, inputs)

    def _merge(self, fresh: list[_Point]) -> list[_Point]:
        """The points of all batches that a batch's belong to: the same calls come in every one."""
        same = [(point.name, point.module) for point in fresh]
        if not self._results:
            self._results = [dataclasses.replace(point, error=None) for point in fresh]
            for point in self._results:
                point.squares = [0.0] * len(self._names)
        elif same != [(point.name, point.module) for point in self._results]:
            raise ValueError(say("shares.vary", "the model runs other operators for other images"))
        else:
            for point, other in zip(self._results, fresh, strict=True):
                point.beyond += other.beyond
                point.modules |= other.modules
        return self._results

    def _backward(
        self,
        number: int,
        output: torch.Tensor,
        fresh: list[_Point],
        points: list[_Point],
        inputs: list[tuple[torch.Tensor, torch.Tensor]],
    ) -> None:
        nodes = {node._sequence_nr(): node for node in _nodes(output.grad_fn)}
        handles = [
            nodes[one.node].register_prehook(_adder(one, total, number))
            for one, total in zip(fresh, points, strict=True)
            if one.node in nodes and one.error is not None
        ]
        leaves = [leaf for leaf, _ in inputs]
        weights = [weight for weight in self._weights if weight.requires_grad]
        errors: list[tuple[_Point, torch.Tensor | None]] = [
            *((self._input, error) for _, error in inputs),
            *((self._weights[weight], self._weights[weight].error) for weight in weights),
        ]
        try:
            for _ in range(self._directions):
                direction = torch.randint(0, 2, output.shape).to(output.dtype) * 2 - 1
                found = torch.autograd.grad(
                    output, [*leaves, *weights], direction, retain_graph=True, allow_unused=True
                )
                for (point, error), gradient in zip(errors, found, strict=True):
                    if gradient is not None and error is not None:
                        point.squares[number] += _square(gradient, error)
        finally:
            for handle in handles:
                handle.remove()

    def shares(self) -> Shares:
        """What was found; points without any effect are left out."""
        scale = [1.0 / (count * self._directions) for count in self._elements]
        every = [self._input, *self._weights.values(), *self._results]
        return Shares(
            arithmetic=str(self._arithmetic),
            outputs=self._names,
            order=tuple(self._order),
            points=tuple(
                RoundingPoint(
                    what=point.what,
                    name=point.name,
                    module=point.module,
                    modules=frozenset(point.modules),
                    squares=tuple(s * f for s, f in zip(point.squares, scale, strict=True)),
                    beyond=point.beyond,
                )
                for point in every
                if any(point.squares) or point.beyond
            ),
        )


class _Recorder(TorchDispatchMode):
    """Rounds a forward pass' results, and notes each rounding with its node of the graph."""

    def __init__(self, arithmetic: Arithmetic, weights: Mapping[torch.Tensor, _Point]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.modules = ModulePath()
        self.points: list[_Point] = []
        self.order: dict[str, None] = {}
        self._arithmetic = arithmetic
        self._store = storage_dtype(arithmetic)
        self._short = arithmetic.dtype != "float32"
        # Whose number lies in a memory: views share it, and what is written to it takes it over.
        self._owners: dict[int, _Point] = {
            _memory(parameter): point for parameter, point in weights.items()
        }
        self._parameters = {_memory(parameter): parameter for parameter in weights}
        self._alive: list[torch.Tensor] = []  # no memory is used twice
        self._cloned: int | None = None  # node of the last call, where that was a copy

    def consumed(self, tensor: torch.Tensor, module: str) -> None:
        """A number goes to a module, "" for out of the model or to the model's own code."""
        owner = self._owners.get(_memory(tensor))
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
        short = None if self._short else self._with_short_factors(func, args, kwargs)
        result = func(*args, **kwargs)
        if func.is_view:
            return result
        if self._short and "batch_norm" in func.name():
            self._of_statistics(func, args, kwargs, result, node)
        first = any(part in func.name() for part in _ONE_RESULT)
        follows = any(tensor.requires_grad for tensor in given)
        for place, tensor in enumerate(tree_leaves(result)):
            if not isinstance(tensor, torch.Tensor) or tensor.dtype != torch.float32:
                continue
            self._alive.append(tensor)
            if (place and first) or not tensor.numel():
                continue
            point = _Point("result", func.name().removesuffix(".default"), module, [])
            point.modules.add(module)
            exact = tensor
            if self._short:
                rounded, point.beyond = _rounded(tensor, self._store)
            elif short is not None:
                rounded = tree_leaves(short)[place]
            else:
                continue
            error = rounded - exact
            tensor.copy_(rounded)
            self._owners[_memory(tensor)] = point
            point.error = error if bool(error.any()) else None
            point.node, point.place = (node if follows else -1), place
            self.points.append(point)
        return result

    def _of_statistics(self, func: Any, args: Any, kwargs: Any, result: Any, node: int) -> None:
        """Note what the rounding of a batch norm's mean and variance changes in its result."""
        exact = list(args)
        for place in _STATISTICS:
            owner = self._owners.get(_memory(args[place])) if args[place] is not None else None
            if owner is None or owner.what != "weight" or owner.error is None:
                return
            exact[place] = args[place] - owner.error
        module = self.modules.path
        point = _Point("weight", f"{module}.running_mean, running_var", module, [])
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
            memory = _memory(args[place])
            weight = self._owners.get(memory)
            if weight is not None and weight.what == "weight" and not weight.shortened:
                parameter = self._parameters[memory].detach()
                rounded = round_mantissa(parameter, form)
                weight.error, weight.shortened = rounded - parameter, True
                parameter.copy_(rounded)
        with Imitation(self._arithmetic):
            return func(*args, **kwargs)


def _rounded(tensor: torch.Tensor, store: torch.dtype) -> tuple[torch.Tensor, int]:
    """A float32 tensor as the format holds it, and how many of its numbers are beyond its range.

    Those keep their value.
    """
    rounded = tensor.to(store).to(torch.float32)
    if bool(torch.isfinite(rounded.sum())):
        return rounded, 0
    beyond = ~torch.isfinite(rounded) & torch.isfinite(tensor)
    return torch.where(torch.isfinite(rounded), rounded, tensor), int(beyond.sum())


def _memory(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _nodes(start: Any) -> Iterator[Any]:
    seen, left = set(), [start]
    while left:
        node = left.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            left += [below for below, _ in node.next_functions]


def _adder(one: _Point, total: _Point, number: int) -> Any:
    """A hook that gets the gradients by an operator's results."""

    def hook(gradients: tuple[torch.Tensor | None, ...]) -> None:
        gradient = gradients[one.place] if one.place < len(gradients) else None
        if gradient is not None and one.error is not None:
            total.squares[number] += _square(gradient, one.error, channels=one.channels)

    return hook


def _square(gradient: torch.Tensor, error: torch.Tensor, *, channels: bool = False) -> float:
    product = (gradient * error).detach()
    if channels:
        product = product.transpose(0, 1).flatten(1).sum(1)
    return float(torch.linalg.vector_norm(product, dtype=torch.float64)) ** 2
