import math

import numpy as np
import pydantic
import pytest

from harness.judgement import image_errors
from harness.judgement.documented import ImageRow, documented_gate
from harness.judgement.metrics import Pair


def test_errors_of_each_image_are_of_its_row_alone():
    cpu = np.array([[3.0, 4.0], [1.0, 0.0]])
    device = np.array([[3.0, 4.0], [1.0, 0.5]])
    first, second = image_errors.of_images(Pair.of(cpu, device))
    assert (first.cosine, first.max_abs, first.mean_abs, first.relative) == (1.0, 0.0, 0.0, 0.0)
    assert second.cosine == pytest.approx(1 / math.sqrt(1.25))
    assert (second.max_abs, second.mean_abs) == (0.5, 0.25)
    assert second.relative == pytest.approx(0.5)


def test_the_element_wise_rule_fails_an_honest_run_where_elements_are_near_zero():
    # One element of a hundred is near zero; both sides err by a thousandth of the others.
    cpu = np.ones((1, 100))
    cpu[0, 0] = 1e-4
    device, honest = cpu + 1e-3, cpu - 1e-3
    rule = image_errors.element_rule(Pair.of(cpu, device), honest)
    assert rule.beyond == rule.honest == 0.01
    assert rule.mean_relative == pytest.approx((99 * 1e-3 + 10) / 100)
    assert image_errors.of_images(Pair.of(cpu, device))[0].relative == pytest.approx(1e-3, rel=0.01)


def test_zero_elements_on_the_cpu_have_no_relative_error():
    rule = image_errors.element_rule(Pair.of(np.zeros((1, 2)), np.zeros((1, 2))), np.zeros((1, 2)))
    assert rule.beyond == 0 and math.isnan(rule.mean_relative)


def test_top5_is_the_same_five_classes_in_any_order():
    cpu = np.array([[9.0, 8, 7, 6, 5, 0, 0], [9.0, 8, 7, 6, 5, 4, 0]])
    device = cpu.copy()
    device[0, [0, 1]] = device[0, [1, 0]]  # another order
    device[1, 5] = 10.0  # another class
    gate = documented_gate(cpu, device, ["a", "b"])
    assert gate.top5_matches == 1
    assert gate.rows[0].top5_match is True and gate.rows[1].top5_match is False


def test_an_older_record_holds_the_classes_themselves():
    row = {"image": 0, "label": "a", "cpu_top1": 1, "device_top1": 1, "cosine": 1.0,
           "max_abs_error": 0.0, "margin": 1.0}  # fmt: skip
    strict = pydantic.create_model("Strict", __config__={"extra": "forbid"}, row=(ImageRow, ...))
    older = {**row, "cpu_top5": [1, 2, 3, 4, 5], "device_top5": [5, 4, 3, 2, 1]}
    read = strict(row=older)
    assert read.row.top5_match is True
    assert read.model_dump()["row"] == {**row, "top5_match": True}
    assert strict(row={**older, "device_top5": [1, 2, 3, 4, 6]}).row.top5_match is False
    assert strict(row=row).row.top5_match is None


def test_five_classes_have_no_top5():
    logits = np.arange(10.0).reshape(2, 5)
    assert documented_gate(logits, logits, ["a", "b"]).top5_matches is None
