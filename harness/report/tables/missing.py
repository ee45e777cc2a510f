"""What a report lacks and why, and what its inputs were."""

from __future__ import annotations

import enum

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


class Missing(enum.Enum):
    """Why something was not measured; the values are keys of a port's texts."""

    NO_RECORD = "no_record"
    NO_CLASSIFIER = "no_classifier"
    EMULATED = "emulated"
    NOT_TIMED = "not_timed"
    CPU_CACHED = "cpu_cached"
    CPU_BUSY = "cpu_busy"
    ENDED = "ended"  # the case ended before; its status says how


_ENGLISH = {
    Missing.NO_RECORD: "no case of the model has a record",
    Missing.NO_CLASSIFIER: "the model has no classifier, so that softmax and Top-1 do not apply",
    Missing.EMULATED: "EMULATED: the emulated device runs on this CPU",
    Missing.NOT_TIMED: "no forward pass was timed",
    Missing.CPU_CACHED: "the CPU was timed in an earlier run: --throughput, or "
    "--reference-cache-size 0, times it in this one",
    Missing.CPU_BUSY: "HOST BUSY: other work had part of the CPU while it was timed",
}


def english(why: Missing | None, case: CaseRecord | None) -> str | None:
    """The reason in English, for files that are read by machines."""
    if why is Missing.ENDED and case is not None:
        return case.status.value
    return _ENGLISH[why] if why is not None else None


def gate_missing(case: CaseRecord | None) -> Missing | None:
    """Why there is no documented accuracy table; None when there is one."""
    if case is None:
        return Missing.NO_RECORD
    if case.gate is not None:
        return None
    judged = case.budgets or case.status is Status.PASS
    return Missing.NO_CLASSIFIER if judged else Missing.ENDED


def speed_missing(case: CaseRecord | None) -> Missing | None:
    """Why the device has no throughput; None when it has."""
    if case is None:
        return Missing.NO_RECORD
    if case.emulated:
        return Missing.EMULATED
    if case.candidate is None or case.reference is None:
        return Missing.ENDED
    timed = case.reference.timing.forward_seconds and case.candidate.timing.forward_seconds
    return None if timed else Missing.NOT_TIMED


def speed_up_missing(case: CaseRecord | None) -> Missing | None:
    """Why there is no speed-up; None when there is."""
    if (why := speed_missing(case)) is not None or case is None or case.reference is None:
        return why
    return cpu_time_missing(case)


def cpu_time_missing(case: CaseRecord) -> Missing | None:
    """Why the CPU has no time of this run; None when it has."""
    if case.reference is None:
        return Missing.ENDED
    timing = case.reference.timing
    if not timing.forward_seconds:
        return Missing.NOT_TIMED
    if timing.cached:
        return Missing.CPU_CACHED
    return Missing.CPU_BUSY if timing.busy else None


def percentiles(timing: Timing) -> dict[str, float] | None:
    """p50, p90 and p95 of the timed passes in seconds; None below `PERCENTILE_PASSES` passes."""
    if len(timing.forward_seconds) < PERCENTILE_PASSES:
        return None
    points = (50, 90, 95)
    values = np.percentile(np.asarray(timing.forward_seconds, np.float64), points)
    return {f"p{point}": float(value) for point, value in zip(points, values, strict=True)}
