"""The order of a sum is read off its results, whatever it is."""

import pytest
import torch

from harness.execution.probes import order, summation
from tests.makers import summations
from tests.makers.summations import planted, to_bits

SINGLE = to_bits(24, "even")
TREES = {
    "256 one after another": summations.sequential(),
    "16 blocks one after another, in each 16 one after another": summations.blocks(16),
    "2 blocks one after another, in each 128 one after another": summations.blocks(128),
    "256 pairwise": summations.pairwise(),
    "4 blocks one after another, in each 64 one after another of every 4": summations.lanes(4),
    "4 at once, 64 times": summations.at_once(4),
}


def as_tuple(tree):
    return tree if isinstance(tree, int) else tuple(map(as_tuple, tree))


@pytest.mark.parametrize("words", TREES)
def test_every_order_is_read_term_by_term(words):
    guard_bits = 3 if "at once" in words else None
    found = order.reveal(planted(TREES[words], SINGLE, guard_bits=guard_bits))
    assert as_tuple(found.tree) == as_tuple(TREES[words])
    assert str(found).startswith(words)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_order_is_read_behind_a_shorter_store(dtype):
    found = order.reveal(planted(summations.blocks(16), SINGLE, dtype))
    assert as_tuple(found.tree) == as_tuple(summations.blocks(16))


def test_orders_of_one_shape_are_told_apart():
    backwards = torch.arange(255, -1, -1)

    def run(left, right):
        return planted(summations.sequential(), SINGLE).run(left[:, backwards], right[backwards])

    there = order.reveal(planted(summations.sequential(), SINGLE))
    back = order.reveal(summation.Summation("back", run, torch.device("cpu"), torch.float32))
    assert str(back).startswith("256 one after another backwards")
    assert back.meetings()[0][1] == 0 and there.meetings()[0][1] == 255


@pytest.mark.parametrize(
    "rounding",
    [to_bits(24, "truncate"), to_bits(27, "even"), to_bits(53, "even"), to_bits(11, "even")],
    ids=["truncated", "27 bits", "float64", "float16"],
)
def test_the_order_is_read_behind_other_roundings(rounding):
    found = order.reveal(planted(summations.blocks(16), rounding))
    assert as_tuple(found.tree) == as_tuple(summations.blocks(16))


def test_sums_that_fit_no_order_are_not_read():
    def exact(left, right):
        return left.double() @ right.double() * 1.25

    assert order.reveal(
        summation.Summation("x", exact, torch.device("cpu"), torch.float32)) is None  # fmt: skip
