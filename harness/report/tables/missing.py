"""What a report lacks and why, and what its inputs were."""

from __future__ import annotations

import numpy as np

from harness.records.leg import Timing
from harness.records.lines import CaseRecord
from harness.system.status import Status

# Fewer passes than this have no meaningful 95th percentile.
PERCENTILE_PASSES = 20


def image_count(case: CaseRecord) -> int:
    """How many images the case has."""
    return len(case.labels) or case.case.inputs.count


def image_size(case: CaseRecord) -> str | None:
    """Height and width of the images, "224x224"; None when they were not prepared."""
    return "x".join(map(str, case.inputs_shape[2:])) or None


def gate_missing(case: CaseRecord | None) -> str | None:
    """Why there is no documented accuracy table, in English; None when there is one."""
    if case is None:
        return "no case of the model has a record"
    if case.gate is not None:
        return None
    if case.budgets or case.status is Status.PASS:
        return "the model has no classifier, so that softmax and Top-1 do not apply"
    return str(case.status.value)


def speed_missing(case: CaseRecord | None) -> str | None:
    """Why the device has no throughput, in English; None when it has."""
    if case is None:
        return "no case of the model has a record"
    if case.emulated:
        return "EMULATED: the emulated device runs on this CPU"
    if case.candidate is None or case.reference is None:
        return case.status.value
    if case.speed_ratio is None:
        return "no forward pass was timed"
    return None


def percentiles(timing: Timing) -> dict[str, float] | None:
    """p50, p90 and p95 of the timed passes in seconds; None below `PERCENTILE_PASSES` passes."""
    if len(timing.forward_seconds) < PERCENTILE_PASSES:
        return None
    points = (50, 90, 95)
    values = np.percentile(np.asarray(timing.forward_seconds, np.float64), points)
    return {f"p{point}": float(value) for point, value in zip(points, values, strict=True)}
