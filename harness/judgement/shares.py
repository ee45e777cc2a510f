"""Who caused the error: what every rounding of a reduced arithmetic contributes to a model's end.

To first order an output's error is the sum of what its roundings cause, each carried on by the rest
of the model.  Roundings are taken as independent, so that the mean squares of what they cause add
up: a **share** is one of them over their sum.  The error as a whole is their sum with signs, which
may cancel or add up where few roundings count.  No torch here; `harness/execution/shares.py`
measures.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Collection, Sequence
from typing import Literal

import numpy as np

from harness.judgement.operator_rows import OperatorRow

DIRECTIONS = 4  # of each output, where shares are to predict
IMAGES = 8  # of a case with more, the first
GREATEST = 5  # shares that a record names
_BLOCKS = 40  # and blocks

What = Literal["result", "weight", "input"]

# A block is what a model repeats: "blocks.3", "layer2.0", "stages.1.blocks.0".
_BLOCK = re.compile(r"\w+\.\d+(?:\.(?:blocks|layers|block|layer)\.\d+)?")
_KINDS = (
    ("conv", "convolution"),
    ("norm", "normalisation"),
    ("attention", "attention"),
    ("softmax", "softmax"),
    ("mm", "product"),
    ("linear", "product"),
    ("add", "addition"),
    ("elu", "activation"),
    ("silu", "activation"),
    ("swish", "activation"),
)


@dataclasses.dataclass(frozen=True)
class RoundingPoint:
    """A number's rounding in a forward pass: an operator's result, a weight, or the input.

    `name`: of the operator or parameter; `module`: path of the module where it happens, "" for the
    model itself; `modules`: all that would have to compute in float32 for it to vanish, where the
    number comes from and where it goes.  `squares`: what it causes in each output of
    `Shares.outputs`, mean square in the output's unit squared.  `beyond`: numbers that are
    beyond the format's range, for which no rounding is taken.
    """

    what: What
    name: str
    module: str
    modules: frozenset[str]
    squares: tuple[float, ...]
    beyond: int = 0

    @property
    def kind(self) -> str:
        """What it is: "weight", "input", or the kind of operator."""
        if self.what != "result":
            return self.what
        return next((kind for part, kind in _KINDS if part in self.name), "other")


@dataclasses.dataclass(frozen=True)
class Part:
    """A share with its name; `share`: of the mean square error, in [0, 1]."""

    name: str
    share: float


@dataclasses.dataclass(frozen=True)
class Shares:
    """The roundings of a forward pass.

    `order`: modules that run operators, as they first do.  `sums`: mean square of what all
    roundings cause together in each output, with their signs.  `images`: how many went in.
    """

    arithmetic: str
    outputs: tuple[str, ...]
    points: tuple[RoundingPoint, ...]
    order: tuple[str, ...]
    sums: tuple[float, ...]
    images: int = 0

    @functools.cached_property
    def squares(self) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        """What each point causes in each output, [points, outputs]."""
        table = np.array([point.squares for point in self.points], np.float64)
        return table.reshape(len(self.points), len(self.outputs))

    def rmse(self, output: str) -> float:
        """The error that is predicted for an output."""
        return math.sqrt(self.sums[self.outputs.index(output)])

    def remaining(self, promoted: Collection[str]) -> tuple[float, ...]:
        """Part of each output's mean square error that is left with modules in float32."""
        left = self.with_promoted(promoted).squares.sum(0)
        total = self.squares.sum(0)
        return tuple(np.where(total > 0, left / np.maximum(total, 1e-300), 0.0).tolist())

    def with_promoted(self, promoted: Collection[str]) -> Shares:
        """The roundings that are left with modules in float32."""
        inside = closure(promoted, self.order)
        left = tuple(point for point in self.points if not point.modules <= inside)
        return dataclasses.replace(self, points=left)

    def by(self, name: Callable[[RoundingPoint], str], output: str) -> list[Part]:
        """Shares of an output's error, grouped, the greatest first; they add up to 1."""
        column = self.squares[:, self.outputs.index(output)]
        total = float(column.sum()) or 1.0
        sums: dict[str, float] = {}
        for point, square in zip(self.points, column.tolist(), strict=True):
            group = name(point)
            sums[group] = sums.get(group, 0.0) + square / total
        return sorted((Part(*item) for item in sums.items()), key=lambda part: -part.share)


def closure(promoted: Collection[str], order: Sequence[str]) -> frozenset[str]:
    """Modules of `order` that lie in `promoted` or are of it; "" is the model itself, never in."""
    roots = tuple(f"{path}." for path in promoted)
    return frozenset(path for path in order if path and f"{path}.".startswith(roots))


def block(module: str) -> str:
    """The block of a module: what the model repeats, else its first part."""
    found = _BLOCK.match(module)
    return found.group() if found else module.partition(".")[0] or "(model)"


def described(point: RoundingPoint) -> str:
    """A point in words: "aten::convolution in layer1.0.conv1"."""
    if point.what == "input":
        return "the input"
    if point.what == "weight":
        return f"weight {point.name}"
    return f"{point.name} in {point.module or '(model)'}"


@dataclasses.dataclass(frozen=True)
class ErrorShares:
    """What a record says of them, for one output.

    `predicted_rmse`: the sum of the roundings, to first order; `budget_rmse`, `device_rmse`: as
    observed, of the imitation on the CPU and of the device.  `greatest`: single roundings;
    `blocks`: in order of execution, the smallest of many as one; `kinds`: weights, input, kinds of
    operators.  `culprit`: see `culprit`.  `images`: how many went in.  Where no format is reduced
    only the culprit is known, and the other parts are empty.
    """

    output: str
    arithmetic: str
    budget_rmse: float
    device_rmse: float
    images: int
    predicted_rmse: float = 0.0
    greatest: tuple[Part, ...] = ()
    blocks: tuple[Part, ...] = ()
    kinds: tuple[Part, ...] = ()
    culprit: Part | None = None
    seconds: float = 0.0


def by_block(shares: Shares, output: str) -> tuple[Part, ...]:
    """Shares of blocks in order of execution; beyond `_BLOCKS` the smallest are one."""
    found = shares.by(lambda point: block(point.module), output)
    order = {name: place for place, name in reversed(list(enumerate(map(block, shares.order))))}
    kept, rest = found[:_BLOCKS], found[_BLOCKS:]
    kept.sort(key=lambda part: order.get(part.name, -1))
    if rest:
        kept.append(Part(f"{len(rest)} others", sum(part.share for part in rest)))
    return tuple(kept)


def culprit(rows: Sequence[OperatorRow], device_rmse: float, budget_rmse: float) -> Part | None:
    """What operators beyond their limits cause: the device's error beyond an honest budget.

    1 - budget^2 / device^2, all of it put down to them; None without any, or with no more error
    than the budget.  Not carried on by the roundings' measure: an error of one kernel is alike in
    many elements, and what is alike adds up otherwise than what is independent.
    """
    if not rows or not device_rmse > budget_rmse:
        return None
    named = f"{rows[0].operator} in {rows[0].module}"
    if len(rows) > 1:
        named += f" and {len(rows) - 1} more"
    return Part(named, 1.0 - (budget_rmse / device_rmse) ** 2)
