"""In which order a device adds up, by FPRev (P. Xie, Y. Gao, Y. Wang, J. Xue, arXiv:2411.00442).

With a great number M as term i, -M as term j, and units as all others, units that are added to M
or -M vanish, and the sum counts those that are added after the two have met: so each pair tells
how many terms lie below the node where it meets, and the pairs tell the tree.  A node of more than
two children adds them at once, as matrix units do.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch

from harness.execution.probes.summation import TERMS, Summation

_SINGLE_BITS = 24  # of a float32 accumulator
# log2 of M over a unit, and of the unit.  An accumulator of float32 forgets all units together
# beside M and, where it rounds towards zero, leaves multiples of 512 units behind; a wider one
# forgets them as well; M and units are numbers of float16, should sums be kept in that; and with
# fewer units at once, float16 terms without factors.
_SCALES = ((33, -11), (66, -22), (33, -18), (44, -14), (28, -13))
_DEEPEST = 24  # levels of blocks within blocks
_MOST_ROWS = 40_000
UNREAD = "not read: the sums fit no fixed order"


# First leaf, other leaves, size of the node that they hang at, and where to hang them.
_Part = tuple[int, list[int], int, list[Any]]


class Unreadable(ValueError):
    """No tree gives these sums."""


@dataclasses.dataclass(frozen=True)
class Order:
    """A tree: a leaf's number, or the children of a node, by the least leaf below each."""

    tree: Any

    def __str__(self) -> str:
        digest = hashlib.sha256(repr(self.tree).encode()).hexdigest()[:8]
        return f"{_words(self.tree)} [{digest}]"

    def meetings(self) -> list[tuple[int, int]]:
        """On the way from the root to one of the lowest nodes: two terms that meet at each node.

        The first of them is the same for all.
        """
        first, steps = _chain(self.tree)
        others = [_chain(step[0])[0] for step in steps[::-1]]
        if len(steps[0]) > 1:  # of terms that are added at once, a third
            others.append(_chain(steps[0][1])[0])
        return [(first, other) for other in others]


def reveal(summation: Summation) -> Order | None:
    """The order in which 256 terms are added; None where the sums fit none."""
    for ratio, unit in _SCALES:
        if ratio < summation.widest:
            try:
                return tree_of(
                    functools.partial(_sizes, summation, ratio=ratio, unit_exponent=unit), TERMS
                )
            except Unreadable:
                continue
    return None


def tree_of(sizes: Callable[[list[tuple[int, int]]], list[int]], terms: int) -> Order:
    """The tree that pairs of terms tell; `sizes`: for each pair, the leaves below its node.

    Raises Unreadable.
    """
    roots: list[Any] = []
    parts: list[_Part] = [(0, list(range(1, terms)), terms + 1, roots)]
    for depth in range(_DEEPEST):
        found = iter(sizes([(first, other) for first, others, _, _ in parts for other in others]))
        deeper: list[_Part] = []
        for first, others, limit, holder in parts:
            seen = {other: next(found) for other in others}
            inside = {other: size for other, size in seen.items() if size < limit}
            node: Any = first
            done = 1
            for size in sorted(set(inside.values())):
                joined = [other for other in inside if inside[other] == size]
                if size != done + len(joined):
                    raise Unreadable
                node, done = [node], size
                deeper.append((*_split(joined, depth), size, node))
            holder.append(node)
            if beside := [other for other in others if other not in inside]:
                deeper.append((*_split(beside, depth), limit, holder))
        if not (parts := deeper):
            return Order(_sorted(roots[0])[1])
    raise Unreadable


def _split(leaves: list[int], depth: int) -> tuple[int, list[int]]:
    """A leaf to begin with and the others: what is added backwards tells most of its last one."""
    *some, last = leaves
    return (last, some) if depth % 2 else (leaves[0], leaves[1:])


def _sizes(
    summation: Summation, pairs: list[tuple[int, int]], ratio: int, unit_exponent: int
) -> list[int]:
    if not pairs:
        return []
    unit, large = 2.0**unit_exponent, 2.0 ** (ratio + unit_exponent)
    garbage = 2 ** (ratio - _SINGLE_BITS)  # units in the last place of the number below M
    at_once = min(TERMS, garbage // 2 - 1)
    counts = torch.zeros(len(pairs), dtype=torch.float64)
    first, second = torch.tensor(pairs).T
    every = torch.arange(len(pairs))
    if len(pairs) * TERMS > at_once * _MOST_ROWS:
        raise Unreadable
    for start in range(0, TERMS, at_once):
        rows = torch.zeros(len(pairs), TERMS, dtype=torch.float64)
        rows[:, start : start + at_once] = unit
        rows[every, first], rows[every, second] = large, -large
        found = torch.remainder(summation.of_terms(rows) / unit, garbage)
        if not torch.equal(found, found.round()):  # not finite either
            raise Unreadable
        counts += found
    return [TERMS - int(count) for count in counts]


def _sorted(tree: Any) -> tuple[int, Any]:
    """The least leaf, and the tree with children in the order of theirs: addition commutes."""
    if isinstance(tree, int):
        return tree, tree
    children = sorted(map(_sorted, tree), key=lambda child: child[0])
    return children[0][0], [child for _, child in children]


def _chain(tree: Any) -> tuple[int, list[list[Any]]]:
    """One of the first leaves to be added, and what is added to it step by step."""
    steps = []
    while not isinstance(tree, int):
        large = max(tree, key=_leaves)
        steps.append([child for child in tree if child is not large])
        tree = large
    return tree, steps[::-1]


def _leaves(tree: Any) -> int:
    return 1 if isinstance(tree, int) else sum(map(_leaves, tree))


def _shape(tree: Any) -> Any:
    """The tree without the leaves' numbers, so that equal blocks are equal."""
    _, steps = _chain(tree)
    return tuple(tuple(_shape(child) for child in step) for step in steps)


def _words(tree: Any) -> str:
    first, steps = _chain(tree)
    if not steps:
        return "1 term"
    shape = _shape(tree)
    if set(shape) == {((),)}:
        return f"{len(steps) + 1} one after another{_stride(first, steps)}"
    if len(steps) == 1 and set(shape[0]) == {()}:
        return f"{len(steps[0]) + 1} at once"
    # Blocks: the first steps, as they are inside each of what is added by the later ones.
    for count in range(1, len(steps)):
        block, later = shape[:count], shape[count:]
        if all(step == (block,) for step in later):
            inner = _words(_of_steps(first, steps[:count]))
            # A sum of two halves, each again of two halves, down to single terms.
            if len(later) == 1 and "pairwise" in inner or count == len(later) == 1:
                return f"{_leaves(tree)} pairwise"
            return f"{len(later) + 1} blocks one after another, in each {inner}"
        if all(step == ((),) * _block(block) for step in later):
            return f"{_block(block)} at once, {len(later) + 1} times"
    return f"{_leaves(tree)} in a tree of {len(steps)} steps"


def _block(shape: Any) -> int:
    return 1 + sum(len(step) for step in shape)


def _of_steps(first: int, steps: Sequence[list[Any]]) -> Any:
    tree: Any = first
    for step in steps:
        tree = [tree, *step]
    return tree


def _stride(first: int, steps: list[list[Any]]) -> str:
    numbers = [first, *(step[0] for step in steps)]
    if len(numbers) > 2 and (numbers[1] - numbers[0]) * (numbers[2] - numbers[1]) < 0:
        numbers[:2] = numbers[1::-1]  # which of the first two comes first is not to be seen
    strides = {after - before for before, after in zip(numbers, numbers[1:], strict=False)}
    if strides in ({1}, {-1}):
        return " backwards" * (strides == {-1})
    return f" of every {strides.pop()}" if len(strides) == 1 else " in an order of their own"
