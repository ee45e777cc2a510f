"""What operators one by one can say alone."""

import numpy as np
import pytest

from harness.judgement import by_operators
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.operator_rows import OperatorCheck, OperatorRow, summarise
from harness.judgement.verdict import judge, judge_without_oracle
from harness.system.status import Status
from tests.makers.evidence import evidence, logits

WHY = "There is nothing else."


def row(index: int, **changes) -> OperatorRow:
    given = {"ratio": 0.5, "worst_slice_ratio": 0.5, "own_rmse": 1.0, "nonfinite": 0} | changes
    return OperatorRow(
        index=index, operator="aten::exp", module="(model)", shapes=(), dtype="float32",
        memory_format="contiguous", **given,
    )  # fmt: skip


def check(*skipped: str, ratio: float = 0.5) -> OperatorCheck:
    rows = [row(0, ratio=ratio), *(row(i, skipped=why) for i, why in enumerate(skipped, 1))]
    return summarise(rows, 1.0)


def test_what_has_no_numbers_of_its_own_is_not_left_out():
    found = check("view", "empty result", "no tensor result", "random", "random")
    assert (found.compared, dict(found.left_out), found.complete) == (1, {"random": 2}, False)
    assert check("view").complete and not summarise([row(0, skipped="view")], 1.0).complete


@pytest.mark.parametrize(
    ("given", "status", "said"),
    [
        (None, Status.INCONCLUSIVE, "None of its operators"),
        (summarise([], 1.0), Status.INCONCLUSIVE, "None of its operators"),
        (check("random", "sparse"), Status.INCONCLUSIVE, "1 (random), 1 (sparse)"),
        (check("view"), None, "judged by its 1 operators"),
    ],
)
def test_they_decide_where_all_were_compared(given, status, said):
    findings, notes = by_operators.judge(given, WHY)
    assert [finding.status for finding in findings] == ([status] if status else [])
    (text,) = notes or [finding.reason for finding in findings]
    assert text.startswith(WHY) and said in text


def test_a_single_input_of_a_users_own_is_judged_by_them():
    one = logits()[:1]

    def judged(operators, own=True):
        return judge(
            evidence({"output": one}, {"output": one}, logits=None, labels=["a"], own=own,
                     operators=operators)
        ).status  # fmt: skip

    assert judged(check("view")) is Status.PASS
    assert judged(check("random")) is judged(None) is Status.INCONCLUSIVE
    assert judged(check("view"), own=False) is Status.INCONCLUSIVE
    assert judged(check(ratio=9.0)) is Status.FAIL_ACCURACY


@pytest.mark.parametrize(
    ("operators", "change", "status"),
    [
        (check("view"), 0.0, Status.PASS),
        (check("random"), 0.0, Status.INCONCLUSIVE),
        (check(ratio=9.0), 0.0, Status.FAIL_ACCURACY),
        (check("view"), np.nan, Status.FAIL_NAN),
    ],
)
def test_without_float64_operators_structure_and_finite_numbers_decide(operators, change, status):
    values = logits()
    found = judge_without_oracle(
        {"f": values}, {"f": values + change}, 6, operators, Arithmetic(), WHY
    )
    assert found.status is status
    fewer = judge_without_oracle({"f": values}, {"f": values[:5]}, 6, operators, Arithmetic(), WHY)
    assert fewer.status is Status.FAIL_SHAPE
