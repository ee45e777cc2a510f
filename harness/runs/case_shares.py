"""The shares of one case's error, for its record."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from harness.judgement import arithmetic, metrics, shares
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.operator_rows import OperatorRow
from harness.judgement.shares import ErrorShares

if TYPE_CHECKING:
    from harness.execution.legs import LegRequest, LegResult
    from harness.execution.sides import Sides

_DIRECTIONS = 2  # enough to rank: six images are twelve samples
# Held three times, beside every activation of a few images.
MOST_WEIGHTS = 1e8
# Where the arithmetic rounds too little to see: how an operator's error is carried is the same.
_TO_SEE = Arithmetic("bfloat16")


def measure(
    sides: Sides, request: LegRequest, candidate: LegResult, culprits: list[OperatorRow]
) -> ErrorShares | None:
    """Shares of the first output's error, where there is a reduced format or a culprit.

    None for others, for autocast and for modules of a user's own.  Raises CaseProblem where there
    are none to be had.
    """
    declared = arithmetic.declared(request.dtype, candidate.record.numerics)
    short = declared.dtype != "float32"
    if declared.autocast is not None or not (short or culprits):
        return None
    started = time.perf_counter()
    floats = [name for name, array in candidate.outputs.items() if array.dtype.kind == "f"]
    output = candidate.logits or next(iter(floats), "")
    measured = declared if short else Arithmetic(_TO_SEE.dtype, gelu=declared.gelu)
    found = sides.cpu.shares(request, measured, [output], _DIRECTIONS, MOST_WEIGHTS)
    answers = sides.cpu.answers(request, declared)
    if answers.oracle is None or answers.budget is None:
        return None
    exact = answers.oracle[output]
    device = metrics.rmse(exact, candidate.outputs[output])
    left = found.with_promoted(declared.promoted)
    return ErrorShares(
        output=output,
        arithmetic=str(declared),
        predicted_rmse=left.rmse(output) if short else 0.0,
        budget_rmse=metrics.rmse(exact, answers.budget.runs[0][output]),
        device_rmse=device,
        greatest=tuple(left.by(shares.described, output)[: shares.GREATEST]) if short else (),
        blocks=shares.by_block(left, output) if short else (),
        kinds=tuple(left.by(lambda point: point.kind, output)) if short else (),
        images=min(shares.IMAGES, len(request.inputs.labels)),
        culprit=shares.culprit(found, culprits, device**2),
        seconds=time.perf_counter() - started,
    )
