from __future__ import annotations

from harness.judgement.operator_rows import RATIO_LIMIT, SLICE_RATIO_LIMIT, OperatorRow, culprits


def test_culprits_come_worst_first():
    def row(index: int, ratio: float, slice_ratio: float, **more: object) -> OperatorRow:
        return OperatorRow(
            index, "aten::add.Tensor", "", (), "float32", "contiguous",
            ratio=ratio, worst_slice_ratio=slice_ratio, **more,
        )  # fmt: skip

    rows = [
        row(0, 1.0, SLICE_RATIO_LIMIT),
        row(1, RATIO_LIMIT * 2, 1.0),
        row(2, 1.0, SLICE_RATIO_LIMIT * 3),
        row(3, 0.0, 0.0, nonfinite=1),
        row(4, 99.0, 99.0, skipped="view"),
    ]
    assert [found.index for found in culprits(rows)] == [3, 2, 1]
    assert culprits([row(5, float("nan"), 0.0)])[0].index == 5
