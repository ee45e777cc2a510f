import dataclasses

import numpy as np
import pytest

from harness.judgement import operator_rows
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.verdict import judge, judge_batch, judge_without_oracle
from harness.system.status import Status
from tests.makers.evidence import evidence, logits
from tests.makers.localization import row

CLASSES = logits().argmax(1)


def sides(classes, **more):
    """A classifier that returns its classes as well; the CPU's are right."""
    cpu = {"output": logits(), "classes": CLASSES}
    found = evidence({"output": logits(), "classes": classes}, cpu, **more)
    runs = tuple({**run, "classes": CLASSES} for run in found.budget.runs)
    return dataclasses.replace(found, budget=dataclasses.replace(found.budget, runs=runs))


def wrong():
    changed = CLASSES.copy()
    changed[3] += 1
    return changed


def test_equal_whole_numbers_pass_and_are_counted():
    result = judge(sides(CLASSES.copy()))
    assert result.status is Status.PASS
    assert "Output 'classes' holds whole numbers: all 6 are the CPU's." in result.notes
    assert [row.name for row in result.budgets] == ["output"]


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
def test_one_that_differs_fails_and_has_a_place(dtype):
    result = judge(sides(wrong().astype(dtype)))
    assert result.status is Status.FAIL_ACCURACY
    said = result.leading.reason
    assert "1 of 6 differ, the first at index [3]" in said
    assert f"{CLASSES[3] + 1} on the device, {CLASSES[3]} in every run on the CPU" in said


def test_a_flag_is_a_whole_number():
    cpu = {"output": logits(), "flag": logits() > 0}
    device = {"output": logits(), "flag": ~cpu["flag"]}
    found = evidence(device, cpu)
    runs = ({"output": found.budget.runs[0]["output"], "flag": cpu["flag"]},)
    result = judge(dataclasses.replace(found, budget=dataclasses.replace(found.budget, runs=runs)))
    assert result.status is Status.FAIL_ACCURACY and "600 of 600 differ" in result.leading.reason


def test_where_honest_runs_differ_rounding_decides():
    found = sides(wrong())
    exact = {"output": logits(), "classes": wrong()}  # a near tie: float64 has the other class
    result = judge(dataclasses.replace(found, oracle=exact))
    assert result.status is Status.PASS
    assert any("all 6 are the CPU's, but 1 that rounding decides" in note for note in result.notes)


def test_another_way_to_batch_must_give_them_too():
    backwards = {"output": logits(), "classes": wrong()}
    result = judge(sides(CLASSES, variants={"permuted": backwards}))
    assert result.status is Status.FAIL_ACCURACY
    assert "when the images run in reverse order" in result.leading.reason


def test_they_are_held_in_the_batches_that_are_timed():
    twice = {"output": np.tile(logits(), (2, 1)), "classes": np.tile(CLASSES, 2)}
    assert judge_batch(sides(CLASSES), twice, 12) == []
    twice["classes"][9] += 1
    (found,) = judge_batch(sides(CLASSES), twice, 12)
    assert found.status is Status.FAIL_ACCURACY and "index [9]" in found.reason


@pytest.mark.parametrize(("classes", "status"), [(CLASSES, Status.INCONCLUSIVE),
                                                 (wrong(), Status.FAIL_ACCURACY)])  # fmt: skip
def test_whole_numbers_alone_are_no_evidence_for_a_device(classes, status):
    found = evidence({"classes": classes}, {"classes": CLASSES}, logits=None)
    budget = dataclasses.replace(found.budget, runs=({"classes": CLASSES},))
    assert judge(dataclasses.replace(found, budget=budget)).status is status


def test_a_wrong_operator_fails_a_model_of_whole_numbers_too():
    found = evidence({"classes": CLASSES}, {"classes": CLASSES}, logits=None)
    budget = dataclasses.replace(found.budget, runs=({"classes": CLASSES},))
    wrong = operator_rows.summarise([row(0, ratio=50.0)], 1.0)
    result = judge(dataclasses.replace(found, budget=budget, operators=wrong))
    assert result.status is Status.FAIL_ACCURACY and "one by one" in result.leading.reason
    right = operator_rows.summarise([row(0)], 1.0)
    for own, status in ((False, Status.INCONCLUSIVE), (True, Status.PASS)):
        given = dataclasses.replace(found, budget=budget, operators=right, own=own)
        assert judge(given).status is status


def test_without_an_oracle_whole_numbers_and_zeros_are_judged_too():
    right = operator_rows.summarise([row(0)], 1.0)

    def status(**device):
        cpu = {"scores": logits(), "classes": CLASSES}
        return judge_without_oracle(cpu, cpu | device, 6, right, Arithmetic(), "Why.").status

    assert status() is Status.PASS
    assert status(classes=wrong()) is Status.FAIL_ACCURACY
    assert status(scores=np.zeros_like(logits())) is Status.FAIL_ACCURACY


def test_a_missing_image_is_a_shape():
    assert judge(sides(CLASSES[:5])).status is Status.FAIL_SHAPE
