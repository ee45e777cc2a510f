"""The shares of one case's error, for its record."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from harness.cases.needed_memory import MOST_SHARED
from harness.judgement import arithmetic, metrics, shares
from harness.judgement.operator_rows import OperatorRow
from harness.judgement.shares import ErrorShares

if TYPE_CHECKING:
    from harness.execution.legs import LegRequest, LegResult
    from harness.execution.sides import Sides

_DIRECTIONS = 1  # enough to rank: six images are six samples


def measure(
    sides: Sides, request: LegRequest, candidate: LegResult, culprits: list[OperatorRow]
) -> ErrorShares | None:
    """Shares of the first output's error, where there is a reduced format or a culprit.

    None for others, and for modules of a user's own.  Raises CaseProblem where there are none to
    be had.
    """
    declared = arithmetic.declared(request.dtype, candidate.record.numerics)
    short = not declared.full
    if not (short or culprits):
        return None
    started = time.perf_counter()
    floats = [name for name, array in candidate.outputs.items() if array.dtype.kind == "f"]
    output = candidate.logits or next(iter(floats), "")
    answers = sides.answers(request, candidate)
    if not output or answers.oracle is None or answers.budget is None:
        return None
    exact = answers.oracle[output]
    device = metrics.rmse(exact, candidate.outputs[output])
    budget = max(metrics.rmse(exact, run[output]) for run in answers.budget.runs)
    found = ErrorShares(
        output=output,
        arithmetic=str(declared),
        budget_rmse=budget,
        device_rmse=device,
        images=min(shares.IMAGES, len(request.inputs.labels)),
        culprit=shares.culprit(culprits, device, budget),
    )
    if not short:
        return found if found.culprit is not None else None
    measured = sides.cpu.shares(request, declared, [output], _DIRECTIONS, MOST_SHARED)
    return dataclasses.replace(
        found,
        images=measured.images,
        predicted_rmse=measured.rmse(output),
        greatest=tuple(measured.by(shares.described, output)[: shares.GREATEST]),
        blocks=shares.by_block(measured, output),
        kinds=tuple(measured.by(lambda point: point.kind, output)),
        seconds=time.perf_counter() - started,
    )
