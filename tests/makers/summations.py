"""Sums whose order and rounding are known, in the place of a device's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from harness.execution.probes.summation import TERMS, Summation

Rounding = Callable[[Tensor], Tensor]


def sequential(first: int = 0, count: int = TERMS, step: int = 1) -> Any:
    tree: Any = first
    for number in range(1, count):
        tree = [tree, first + number * step]
    return tree


def blocks(size: int) -> Any:
    tree, *others = (sequential(start, size) for start in range(0, TERMS, size))
    for other in others:
        tree = [tree, other]
    return tree


def pairwise(first: int = 0, count: int = TERMS) -> Any:
    if count == 1:
        return first
    half = count // 2
    return [pairwise(first, half), pairwise(first + half, half)]


def lanes(count: int) -> Any:
    tree, *others = (sequential(lane, TERMS // count, count) for lane in range(count))
    for other in others:
        tree = [tree, other]
    return tree


def at_once(size: int) -> Any:
    tree: Any = list(range(size))
    for start in range(size, TERMS, size):
        tree = [tree, *range(start, start + size)]
    return tree


def to_bits(bits: int, mode: str) -> Rounding:
    """A rounding to so many bits of the significand, the leading one included."""

    def rounded(values: Tensor) -> Tensor:
        mantissa, exponent = torch.frexp(values)
        scaled = torch.ldexp(mantissa, torch.tensor(bits))
        whole = {
            "even": torch.round,
            "away": lambda x: torch.sign(x) * torch.floor(x.abs() + 0.5),
            "truncate": torch.trunc,
            "up": torch.ceil,
            "down": torch.floor,
        }[mode](scaled)
        return torch.ldexp(whole, exponent - bits)

    return rounded


def planted(
    tree: Any,
    rounding: Rounding,
    dtype: torch.dtype = torch.float32,
    outer: Rounding | None = None,
    guard_bits: int | None = None,
) -> Summation:
    """A matrix product that adds as the tree says and rounds every node.

    `outer`: the rounding of nodes of more than 16 terms, where it is another; `guard_bits`: of
    terms that are added at once, all below the greatest one's are cut off, as in matrix units.
    """

    def node(tree: Any, terms: Tensor) -> tuple[Tensor, int]:
        if isinstance(tree, int):
            return terms[tree], 1
        parts = [node(child, terms) for child in tree]
        size = sum(count for _, count in parts)
        if guard_bits is None:
            total = parts[0][0]
            for value, _ in parts[1:]:
                total = total + value
        else:
            values = torch.stack([value for value, _ in parts])
            _, exponent = torch.frexp(values.abs().amax(0))
            unit = torch.ldexp(torch.ones(64).double(), exponent - 24 - guard_bits)
            total = (torch.trunc(values / unit) * unit).sum(0)
        kind = outer if outer is not None and size > 16 else rounding
        return kind(total), size

    def run(left: Tensor, right: Tensor) -> Tensor:
        products = left.T.double() * right.double()
        return torch.diag(node(tree, products)[0]).to(dtype)

    return Summation("planted", run, torch.device("cpu"), dtype)
