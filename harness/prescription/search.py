"""The smallest set of modules in float32 that leaves no more of an error than is wanted.

A rounding vanishes when all modules that its number comes from and goes to are in float32
(`RoundingPoint.modules`).  Sets are closed: with a module comes what lies in it, and the size of a
set is the number of modules in it that run operators themselves.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from harness.judgement.shares import RoundingPoint, Shares, closure

_MOVES = 64  # numbers, by what they cause, that a step tries to free of their rounding

Modules = frozenset[str]
_Floats = npt.NDArray[np.float64]
_Flags = npt.NDArray[np.bool_]


def overflowing(shares: Shares) -> tuple[Modules, list[RoundingPoint]]:
    """Modules that numbers beyond the format's range need, and numbers that no module holds."""
    beyond = [point for point in shares.points if point.beyond]
    lost = [point for point in beyond if "" in point.modules]
    needed = {path for point in beyond for path in point.modules if path}
    return closure(needed, shares.order), lost


def smallest(shares: Shares, limits: Sequence[float], needed: Modules) -> Modules | None:
    """A small set with `needed` in it that leaves at most `limits` of each output's mean square.

    `limits`: parts of what there is without any module in float32, in [0, 1], infinite for an
    output that does not count.  Greedy: the move with the greatest gain for each module that it
    adds; moves are single modules, and what frees one number.  Then whatever turns out not to be
    needed is taken back.  None when all modules together leave more.
    """
    table = _Table(shares, limits)
    every = closure(shares.order, shares.order)
    if not table.within(every):
        return None
    chosen = needed
    while not table.within(chosen):
        chosen = chosen | table.best_move(chosen)
    return _pruned(table, chosen, needed)


def first(shares: Shares, count: int, order: Sequence[str]) -> Modules:
    """Modules in an order, each with what lies in it, up to `count`."""
    chosen: Modules = frozenset()
    for path in order:
        more = chosen | closure([path], shares.order)
        if path and len(more) <= count:
            chosen = more
    return chosen


def drawn(shares: Shares, count: int, seed: int) -> Modules:
    """As many modules at random."""
    order = sorted(shares.order)
    random.Random(seed).shuffle(order)  # noqa: S311 - a baseline, no secret
    return first(shares, count, order)


def roots(modules: Modules) -> tuple[str, ...]:
    """The outermost of a closed set, in the order of their names' parts."""

    def outer(path: str) -> bool:
        parts = path.split(".")
        return any(".".join(parts[:end]) in modules for end in range(1, len(parts)))

    def key(path: str) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdigit() else (-1, part) for part in path.split(".")]

    return tuple(sorted((path for path in modules if not outer(path)), key=key))


class _Table:
    """Points against modules, as arrays."""

    def __init__(self, shares: Shares, limits: Sequence[float]) -> None:
        self._order = shares.order
        self._place = {path: place for place, path in enumerate(shares.order)}
        limited = np.array([np.isfinite(limit) for limit in limits])
        parts = shares.squares / np.maximum(shares.squares.sum(0), 1e-300)
        # In units of what is allowed: an output is within its limit when its sum is at most 1.
        allowed = np.maximum(np.array([limit if np.isfinite(limit) else 1.0 for limit in limits]),
                             1e-12)  # fmt: skip
        self._weights = np.where(limited, parts / allowed, 0.0)  # [points, outputs]
        self._needs = np.zeros((len(shares.points), len(shares.order) + 1), bool)
        for row, point in enumerate(shares.points):
            for path in point.modules:
                self._needs[row, self._place.get(path, -1) if path else -1] = True
        self._closures = {path: closure([path], shares.order) for path in shares.order if path}
        self._points = shares.points

    def left(self, chosen: Modules) -> _Floats:
        """What is left of each output, in units of what is allowed."""
        found: _Floats = self._weights[self._open(chosen)].sum(0)
        return found

    def within(self, chosen: Modules) -> bool:
        """Whether no output has more left than allowed."""
        return bool((self.left(chosen) <= 1.0).all())

    def _open(self, chosen: Modules) -> _Flags:
        outside = np.ones(self._needs.shape[1], bool)
        outside[[self._place[path] for path in chosen]] = False
        return np.asarray(self._needs[:, outside].any(1))

    def _excess(self, chosen: Modules) -> float:
        """What is left of outputs that are not within their limit yet; others do not count."""
        left = self.left(chosen)
        return float(np.where(left > 1.0, left, 1.0).sum())

    def best_move(self, chosen: Modules) -> Modules:
        """What to add: the greatest gain for each module."""
        now, total = self._excess(chosen), float(self.left(chosen).sum())
        moves = {more for path, more in self._closures.items() if path not in chosen}
        still_open = np.flatnonzero(self._open(chosen) & ~self._needs[:, -1])
        heaviest = still_open[np.argsort(-self._weights[still_open].sum(1), kind="stable")]
        for row in heaviest[:_MOVES]:
            moves.add(closure(self._points[row].modules, self._order))
        rated = []
        for move in moves:
            added = move - chosen
            if added:
                more = chosen | added
                gain = now - self._excess(more)
                # Of two that suffice the one that leaves less.
                spare = total - float(self.left(more).sum())
                rated.append((gain / len(added), -len(added), spare, sorted(added), added))
        return max(rated, key=lambda one: one[:4])[4]


def _pruned(table: _Table, chosen: Modules, needed: Modules) -> Modules:
    """Without the modules that the limits do not need, those that gain least first."""

    def without(path: str) -> Modules:
        parts = path.split(".")
        above = {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
        return chosen - above

    candidates = sorted(chosen - needed, key=lambda path: (table.left(without(path)).max(), path))
    for path in candidates:
        if path in chosen and needed <= (fewer := without(path)) and table.within(fewer):
            chosen = fewer
    return chosen
