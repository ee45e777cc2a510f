from __future__ import annotations

import math

import numpy as np
import pytest

from harness.judgement import localization
from harness.judgement.budget import OracleError, OutputBudget


def output_budget(*ratios: float) -> OutputBudget:
    error = OracleError(0.3, 1.0, 0.1, (0.3,) * len(ratios), (1.0,) * len(ratios))
    return OutputBudget("output", error, error, 0.1, 2.0, ratios, limit=3.0)


@pytest.mark.parametrize(
    ("ratios", "batch", "expected"),
    [
        ((1.0, 1.0, 9.0, 1.0, 1.0), 2, (2, 4)),
        ((1.0, 1.0, 1.0, 1.0, 9.0), 2, (4, 5)),
        ((1.0, math.nan, 99.0), 1, (1, 2)),
        ((), 8, (0, 6)),
    ],
)
def test_the_batch_with_the_worst_image_is_localised(ratios, batch, expected):
    budgets = [output_budget(*ratios)] if ratios else []
    assert localization.worst_batch(budgets, len(ratios) or 6, batch) == expected


def test_a_trace_reproduces_the_leg_within_its_budget():
    leg = {"output": np.ones((2, 3)), "features": np.ones(4)}
    budgets = [output_budget(2.0, 2.0)]  # allows 3 x 0.15
    assert localization.reproduced({"output": np.ones((2, 3))}, leg, budgets) is True
    assert localization.reproduced({"output": np.full((2, 3), 1.4)}, leg, budgets) is True
    assert localization.reproduced({"output": np.full((2, 3), 1.5)}, leg, budgets) is False
    assert localization.reproduced({"other": np.ones(3)}, leg, budgets) is None
