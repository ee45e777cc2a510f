"""The same images in other batches, among them the declared one with every place taken."""

from __future__ import annotations

import numpy as np
import pytest

from harness.judgement import batchings, budget
from harness.system.status import Status

IMAGES, CLASSES = 3, 40


def sides(seed: int = 0) -> tuple[np.ndarray, budget.Allowance]:
    generator = np.random.default_rng(seed)
    oracle = generator.normal(size=(IMAGES, CLASSES))
    honest = oracle + 1e-6 * generator.normal(size=oracle.shape)
    return honest, budget.allowance(oracle, honest, [honest], exact=True)


def judged(way: str, values: np.ndarray, right: bool = True):
    honest, allowed = sides()
    names = {"output"} if right else set()
    return batchings.judge(
        {way: {"output": values}}, {"output": honest}, {"output": allowed}, names
    )


def full(rows: int = 8) -> np.ndarray:
    return sides()[0][np.arange(rows) % IMAGES].copy()


def test_a_full_batch_that_is_right_says_nothing():
    assert judged("full", full()) == ([], None)


@pytest.mark.parametrize("row", [0, 5, 7])
def test_every_row_of_a_full_batch_is_held_to_its_image(row):
    values = full()
    values[row] += 1e-2
    (finding,), wrong = judged("full", values)
    assert finding.status is Status.FAIL_ACCURACY and "fill the declared batch" in finding.reason
    assert wrong == batchings.WrongBatching("full", row % IMAGES)


def test_a_nan_in_a_later_row_is_not_hidden_by_the_first():
    values = full()
    values[6, 3] = np.nan
    (finding,), wrong = judged("full", values)
    assert finding.status is Status.FAIL_NAN and wrong == batchings.WrongBatching("full", 0)


def test_too_few_rows_and_other_shapes_are_structural():
    for values in (full(2), full()[:, :5]):
        findings, wrong = judged("full", values)
        assert {finding.status for finding in findings} == {Status.FAIL_SHAPE} and wrong is None


def test_what_is_wrong_in_its_own_batch_says_nothing_of_others():
    assert judged("alone", sides()[0] + 1, right=False) == ([], None)
