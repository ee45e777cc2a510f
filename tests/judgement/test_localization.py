from __future__ import annotations

import dataclasses
import math

from harness.judgement.arithmetic import Arithmetic
from harness.judgement.localization import Localization
from tests.makers.localization import row


def test_culprits_come_first_and_intermittent_ones_count():
    rows = (
        row(0),
        row(1, ratio=50.0, own_rmse=5e-6),
        row(2, unstable=3),
        row(3, ratio=2.9),
        row(4, skipped="the device raised X"),
        row(5, nonfinite=1, ratio=0.0),
    )
    found = Localization("float32", 0, 2, rows)
    assert [r.index for r in found.culprits] == [2, 5, 1]
    assert [r.index for r in found.worst] == [2, 5, 1, 3, 0]
    assert "layer2 (operator 2): 3 elements differ" in found.conclusion()
    assert "3 of 5 aten::" in found.conclusion() and "0 of 0 others" in found.conclusion()


def test_the_conclusion_counts_culprits_by_operator():
    wrong = [row(i, ratio=9.0, operator="aten::convolution.default") for i in range(81)]
    right = [row(100 + i, operator=f"aten::op{i % 7}.default") for i in range(157)]
    found = Localization("float32", 0, 6, (*wrong, *right, row(999, skipped="a view")))
    assert found.conclusion().endswith(
        "Beyond what float32 explains are 81 of 81 aten::convolution.default, 0 of 157 others."
    )


def test_no_culprit_says_so_and_whether_the_failure_came_back():
    found = Localization("float16", 0, 2, (row(0), row(1)), reproduced=False)
    assert found.conclusion().startswith("No culprit: none of 2 of 2 operators")
    assert "comes and goes" in found.conclusion()
    assert "comes and goes" not in dataclasses.replace(found, reproduced=True).conclusion()
    assert Localization(problem="error_crash: x").conclusion() == "Not localised: error_crash: x"


def test_inherited_errors_are_judged_by_the_declared_arithmetic():
    beyond = row(1, inherited_rmse=5e-6, inherited_budget_rmse=1e-6)
    rows = (row(0), beyond)
    assert Localization("float32", 0, 1, rows, full=True).first_beyond is None
    assert Localization("float16", 0, 1, rows).first_beyond == beyond
    # Plain float32 rounding, whatever the form of GELU: the verdict takes the same limit.
    tanh = Arithmetic(gelu="tanh")
    assert Localization(str(tanh), 0, 1, rows, full=tanh.full).first_beyond is None
    assert row(0, inherited_rmse=0.0, inherited_budget_rmse=0.0).inherited_ratio == 0
    assert row(0, inherited_rmse=1e-9, inherited_budget_rmse=0.0).inherited_ratio > 1e300
    assert math.isnan(row(0).inherited_ratio)
