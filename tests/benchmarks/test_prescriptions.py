"""The tables of predicted errors and prescriptions say what their rows say."""

import dataclasses

from benchmarks import prescriptions
from benchmarks.prescriptions import Row

ROW = Row(
    model="one", format="float16", observed=0.1, shares=0.11, independent=0.15, modules=20,
    count=5, pairs=3, met=True, prescribed=0.5, first=0.6, last=0.7, drawn=0.8,
)  # fmt: skip


def test_conclusions_count_what_is_near_and_what_is_better():
    rows = [
        ROW,
        dataclasses.replace(ROW, format="bfloat16", shares=0.13, last=0.4, met=False),
        dataclasses.replace(ROW, model="two", shares=0.07, engine=0.14),
    ]
    assert prescriptions.conclusions(rows) == [
        "Predicted within 20 % of observed: 1 of 3 (0.70 to 1.30); mean squares alone 0 of 3 "
        "(1.50 to 1.50).",
        "Target met: 2 of 3.",
        "Against first k: better in 3, worse by over 2 % in 0 of 3.",
        "Against last k: better in 2, worse by over 2 % in 1 of 3.",
        "Against drawn k: better in 3, worse by over 2 % in 0 of 3.",
        "Better than all three: 2 of 3, in every format on 1 of 2.",
        "ONNX Runtime, two: 1.40 of the imitation's error, predicted / observed 0.50.",
    ]
    assert "| one | 1.10, 1.30 | 5 of 20, 5 of 20 | 3, 3 |" in prescriptions.table(rows)
