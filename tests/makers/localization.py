"""Rows of operators."""

from __future__ import annotations

import dataclasses

from harness.judgement.operator_rows import OperatorRow


def row(index: int, **fields: object) -> OperatorRow:
    plain = OperatorRow(
        index, "aten::mm.default", f"layer{index}", ("2x2",), "float32", "contiguous"
    )
    numbers = {"own_rmse": 1e-7, "budget_rmse": 1e-7, "reference_rms": 1.0, "ratio": 1.0}
    return dataclasses.replace(plain, worst_slice_ratio=1.0, **{**numbers, **fields})
