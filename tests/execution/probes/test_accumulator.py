"""Width and rounding of accumulators, of sums where both are known."""

import pytest
import torch

from harness.execution.probes import accumulator, order
from harness.execution.probes.accumulator import Accumulator
from tests.makers import summations
from tests.makers.summations import planted, to_bits

WORDS = {
    "even": "to nearest, ties to even",
    "away": "to nearest, ties away from zero",
    "truncate": "truncated",
    "up": "rounded up",
    "down": "rounded down",
}


def seen(summation):
    return accumulator.measure(summation, order.reveal(summation))


@pytest.mark.parametrize(
    ("bits", "mode"), [(24, "even"), (24, "away"), (24, "truncate"), (27, "truncate"), (11, "even")]
)
def test_bits_and_rounding_are_found(bits, mode):
    found = seen(planted(summations.sequential(), to_bits(bits, mode)))
    assert found == (Accumulator(bits, WORDS[mode]),) * 2


@pytest.mark.parametrize("mode", ["up", "down"])
def test_directed_rounding_is_found(mode):
    # The order is given: what rounds away from M has none that could be read.
    known = order.reveal(planted(summations.sequential(), to_bits(24, "even")))
    found = accumulator.measure(planted(summations.sequential(), to_bits(24, mode)), known)
    assert found == (Accumulator(24, WORDS[mode]),) * 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_narrower_store_does_not_hide_the_accumulator(dtype):
    found = seen(planted(summations.sequential(), to_bits(24, "even"), dtype))
    assert found == (Accumulator(24, WORDS["even"]),) * 2


def test_blocks_may_be_added_otherwise_than_their_terms():
    exact, half = to_bits(24, "even"), to_bits(11, "even")
    inner, outer = seen(planted(summations.blocks(16), exact, outer=half))
    assert (inner, outer) == (Accumulator(24, WORDS["even"]), Accumulator(11, WORDS["even"]))


def test_terms_that_are_aligned_and_cut_off_are_seen_with_their_guard_bits():
    # A tensor core: four products and the accumulator at once, three bits below the last kept.
    unit = planted(summations.at_once(4), to_bits(53, "even"), guard_bits=3)
    assert {found.bits for found in seen(unit)} == {27}
    assert {found.rounding for found in seen(unit)} == {"truncated"}
