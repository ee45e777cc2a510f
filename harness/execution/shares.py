"""Measures what every rounding of a reduced arithmetic contributes to a model's outputs.

One forward pass in float32 whose numbers are rounded as the arithmetic does it, each rounding
noted: e, what it changes (`roundings.py`).  For a random direction v of an output (its elements +1
or -1, each with even chance) one backward pass gives g, the gradient of v . output by every rounded
number.  With J the derivative of the output by them, g = J^T v, and over directions

    E sum_k g_k^2 e_k^2 = sum_k |J_k|^2 e_k^2,

which is the mean square of what independent roundings of the size of e cause in the output
(Hutchinson's estimator, Communications in Statistics 19:433, 1990, of a diagonal).  All images go
into one direction, each with signs of its own, so that six images are six samples.

Roundings are not drawn anew for each image: a weight's is the same for all of them, and so is what
is computed from weights alone.  Where few of them count, what they cause adds up or cancels by
chance.  The error as a whole is therefore their sum with signs, J e: two passes without rounding,
to whose numbers e h and -e h are added, differ by 2 h J e to second order in h (the central
difference).  J is here the derivative at the exact numbers.

Statistics of a batch norm have no derivative in PyTorch: what their rounding changes in its result
is taken instead, channel by channel, since one number errs alike everywhere.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from harness.cases.needed_memory import IMAGES_OF_LARGE, LARGE_SHARED, shared_together
from harness.cases.samples import Samples
from harness.execution import autocast, outputs
from harness.execution.imitation import storage_dtype
from harness.execution.roundings import Added, Casts, Point, Recorder, rounding_of, short_dtype
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.shares import DIRECTIONS, IMAGES, RoundingPoint, Shares, What, closure
from harness.system.messages import say

_STEP = 0.125  # part of the errors that is added, and taken away


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
    again.  `given`: samples, float32, of which the first `IMAGES` count, of a model of more than
    100 million weights two.  Modules that `arithmetic` promotes have no points.  Raises ValueError
    for an output that the model does not give as floating-point numbers, and for a model of more
    than `most_weights` numbers: each is held three times.
    """
    weights = sum(parameter.numel() for parameter in model.parameters())
    if weights > most_weights:
        english = "the model has more than {most} million weights"
        raise ValueError(say("shares.large", english, most=f"{most_weights / 1e6:g}"))
    images = IMAGES if weights <= LARGE_SHARED else IMAGES_OF_LARGE
    together = shared_together(weights)
    samples = given.rows(slice(images)) if not given.apart else given
    measured = _Measured(model, arithmetic, names, directions, taps_features)
    with torch.random.fork_rng(devices=[]), _parameters_differentiable(model):
        torch.manual_seed(0)
        measured.round_weights()
        batches = [samples] if samples.apart else list(samples.batches(together))
        for batch in batches:
            measured.add(batch)
    return dataclasses.replace(measured.shares(), images=1 if samples.apart else len(samples))


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
        self,
        model: nn.Module,
        arithmetic: Arithmetic,
        names: Sequence[str],
        directions: int,
        taps_features: bool,
    ) -> None:
        self._model = model
        self._taps_features = taps_features
        self._arithmetic = arithmetic
        self._store = storage_dtype(arithmetic)
        self._names = tuple(names)
        self._directions = directions
        self._elements = [0] * len(self._names)
        self._sums = [0.0] * len(self._names)  # squares of all errors together
        self._results: list[Point] = []
        self._weights: dict[torch.Tensor, Point] = {}
        self._input = self._point("input", "", "")
        self._input.modules.add("")  # nobody hands it over in float32
        self._order: dict[str, None] = {}

    def _point(self, what: What, name: str, module: str) -> Point:
        return Point(what, name, module, [0.0] * len(self._names))

    def round_weights(self) -> None:
        """Store parameters and buffers in the format, and note what that changes."""
        for name, parameter in (*self._model.named_parameters(), *self._model.named_buffers()):
            if parameter.dtype != torch.float32 or parameter in self._weights:
                continue
            point = self._point("weight", name, name.rpartition(".")[0])
            # Its own memory: other models may share the one that it came with.
            parameter.data = parameter.data.clone()
            if self._store != torch.float32:
                point.error, point.beyond = rounding_of(parameter.data, self._store)
                parameter.data.add_(point.error)
            parameter.requires_grad_(not name.endswith(("running_mean", "running_var")))
            self._weights[parameter] = point

    def add(self, batch: Samples) -> None:
        """One batch: a forward pass, and a backward pass for each direction of each output."""
        inputs: list[tuple[torch.Tensor, torch.Tensor]] = []

        def stored(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.dtype != torch.float32:
                return tensor
            error, beyond = rounding_of(tensor, self._store)
            self._input.beyond += beyond
            inputs.append(((tensor + error).requires_grad_(True), error))
            return inputs[-1][0]

        casts = self._casts()
        recorder = Recorder(self._arithmetic, self._weights, casts)
        placed = batch.mapped(stored)
        with self._autocast(casts), recorder.modules.watching(self._model), recorder:
            found = self._outputs(placed)
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
        del found, end  # and the graph
        self._add_sum(recorder, batch, [error for _, error in inputs])

    def _outputs(self, placed: Samples) -> dict[str, torch.Tensor]:
        """What the model gives for a batch, by name."""
        features: list[Any] = []
        inner = getattr(self._model, "forward_features", None) if self._taps_features else None
        if callable(inner):

            def tapped(*args: Any, **kwargs: Any) -> Any:
                features[:] = [inner(*args, **kwargs)]
                return features[0]

            self._model.forward_features = tapped  # type: ignore[assignment]
        try:
            value = placed.call(self._model)
        finally:
            if callable(inner):
                self._model.forward_features = inner
        found = dict(outputs.flatten(value, rows=not placed.apart))
        if features:
            found |= dict(outputs.flatten(outputs.tensors(features[0]), "forward_features"))
        return found

    def _casts(self) -> Casts | None:
        policy = self._arithmetic.autocast
        return Casts(short_dtype(self._arithmetic)) if policy is not None else None

    def _autocast(self, casts: Casts | None) -> contextlib.AbstractContextManager[None]:
        policy = self._arithmetic.autocast
        return autocast.imitated(policy, casts) if policy and casts else contextlib.nullcontext()

    def _add_sum(self, recorder: Recorder, batch: Samples, errors: list[torch.Tensor]) -> None:
        """What all errors that are left cause together, carried on from the exact numbers."""
        inside = closure(self._arithmetic.promoted, list(self._order))

        def left(point: Point) -> bool:
            return not point.modules <= inside

        def run(part: float) -> dict[str, torch.Tensor]:
            following = iter(errors)

            def step(tensor: torch.Tensor) -> torch.Tensor:
                if tensor.dtype != torch.float32:
                    return tensor
                # With a derivative, so that the same operators run.
                return tensor.add(next(following), alpha=part).requires_grad_(True)

            moved = batch.mapped(step)
            casts = self._casts()
            added = Added(recorder.steps, part, left, self._arithmetic, casts)
            with self._moved_weights(part, left), self._autocast(casts), added:
                found = self._outputs(moved)
            return {name: found[name].detach() for name in self._names}

        above, below = run(_STEP), run(-_STEP)
        for number, name in enumerate(self._names):
            error = (above[name].double() - below[name].double()) / (2 * _STEP)
            self._sums[number] += float(error.square().sum())

    @contextlib.contextmanager
    def _moved_weights(self, part: float, left: Callable[[Point], bool]) -> Iterator[None]:
        """Weights as they are without rounding, but for a part of it; rounded again afterwards."""
        moved = [
            (weight, point.error, part if left(point) else 0.0)
            for weight, point in self._weights.items()
            if point.error is not None
        ]
        with torch.no_grad():
            rounded = [weight.clone() for weight, _, _ in moved]
            for weight, error, some in moved:
                weight.sub_(error).add_(error, alpha=some)
        try:
            yield
        finally:
            with torch.no_grad():
                for (weight, _, _), before in zip(moved, rounded, strict=True):
                    weight.copy_(before)

    def _merge(self, fresh: list[Point]) -> list[Point]:
        """The points of all batches that a batch's belong to: the same calls come in every one."""
        same = [(point.name, point.module) for point in fresh]
        if not self._results:
            self._results = [dataclasses.replace(point, error=None) for point in fresh]
            for point in self._results:
                point.squares = [0.0] * len(self._names)
        elif same != [(point.name, point.module) for point in self._results]:
            english = "the model runs other operators for other images"
            raise ValueError(say("shares.vary", english))
        else:
            for point, other in zip(self._results, fresh, strict=True):
                point.beyond += other.beyond
                point.modules |= other.modules
        return self._results

    def _backward(
        self,
        number: int,
        output: torch.Tensor,
        fresh: list[Point],
        points: list[Point],
        inputs: list[tuple[torch.Tensor, torch.Tensor]],
    ) -> None:
        nodes = {node._sequence_nr(): node for node in _nodes(output.grad_fn)}
        handles = [
            nodes[one.node].register_prehook(_adder(one, total, number))
            for one, total in zip(fresh, points, strict=True)
            if one.node in nodes and one.error is not None
        ]
        leaves = [leaf for leaf, _ in inputs]
        # Under autocast a weight's rounding is its cast's, to which gradients come on their way.
        cast = self._arithmetic.autocast is not None
        weights = [
            weight
            for weight, point in self._weights.items()
            if weight.requires_grad and (cast or point.error is not None)
        ]
        errors: list[tuple[Point, torch.Tensor | None]] = [
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
        found = Shares(
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
            sums=tuple(one / count for one, count in zip(self._sums, self._elements, strict=True)),
        )
        return found.with_promoted(self._arithmetic.promoted)


def _nodes(start: Any) -> Iterator[Any]:
    seen, left = set(), [start]
    while left:
        node = left.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            left += [below for below, _ in node.next_functions]


def _adder(one: Point, total: Point, number: int) -> Any:
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
