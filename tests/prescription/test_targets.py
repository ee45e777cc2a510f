import math

import numpy as np
import pytest

from harness.prescription import targets
from harness.system.status import UsageProblem

VALUES = {"budget_ratio": 0.4, "error_rate": 0.5, "mae": 1e-4, "top1": 100.0}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("error_rate<1", True),
        ("error_rate<0.5", False),
        ("error_rate<=0.5, top1>=100", True),
        ("error_rate<0.4, top1>=100", False),
        ("budget_ratio<0.5x", True),  # 0.4 of 1.0
        ("mae<0.5x", False),
    ],
)
def test_all_conditions_are_to_hold(text, holds):
    without = {"budget_ratio": 1.0, "error_rate": 2.0, "mae": 1e-4, "top1": 50.0}
    assert targets.parse(text).holds(VALUES, without) is holds


def test_what_is_not_finite_never_holds():
    broken = dict.fromkeys(VALUES, math.nan)
    for text in ("error_rate<1", "error_rate>1"):
        assert not targets.parse(text).holds(broken, VALUES)
    assert not targets.parse("mae<1x").holds(VALUES, broken)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("error_rate", "--target, column 11: expected one of > < >= <=, found the end"),
        ("speed>2", "--target: no plan brings speed; known: budget_ratio, error_rate, mae, top1"),
        ("top1>=101", "--target: top1 is never >= 101: it goes from 0 to 100."),
        ("budget_ratio<0", "--target: budget_ratio is never < 0: it goes from 0 to inf."),
        ("latency<2", "--target, column 1: unknown metric 'latency'"),
        ("", "--target, column 1: expected a metric, found the end"),
    ],
)
def test_a_malformed_target_is_said(text, said):
    with pytest.raises(UsageProblem) as problem:
        targets.parse(text)
    assert str(problem.value).startswith(said)


def scale(oracle):
    return targets.Scale({"output": oracle}, {"output": 0.1}, "output", ["a", "b"])


def test_errors_are_scaled_and_held_against_what_the_format_costs():
    oracle = np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 3.0]])
    noise = np.array([[0.1, -0.1, 0.1], [-0.1, 0.1, 0.1]])
    held = scale(oracle)
    assert held.values({"output": oracle}, {"output": oracle + noise})["budget_ratio"] == (
        pytest.approx(1.0)
    )
    half = held.scaled({"output": oracle + noise}, {"output": 0.5})
    np.testing.assert_allclose(half["output"], oracle + 0.5 * noise)
    found = held.values({"output": oracle}, half)
    assert found["budget_ratio"] == pytest.approx(0.5)
    assert found["top1"] == 100.0 and 0 < found["error_rate"] < 1


def test_one_number_that_is_not_finite_leaves_no_metric():
    oracle = np.ones((2, 3))
    broken = oracle.copy()
    broken[1, 2] = np.inf
    assert all(map(math.isnan, scale(oracle).values({"output": oracle},
                                                    {"output": broken}).values()))  # fmt: skip
