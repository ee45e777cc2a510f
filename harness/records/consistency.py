"""Whether a record can be what the rules gave: its status is held against the numbers beside it.

A record's status is a word in a file.  Where the rules that judged it are those of this harness,
every one of them that can be applied to the recorded numbers is applied again; records of older
rules are read as they are, and said to be older.  Whoever changes status and numbers alike is
seen by a signature only.
"""

from __future__ import annotations

import functools
import math

from harness.judgement import budget
from harness.judgement.documented import ERROR_RATE_LIMIT_PERCENT, DocumentedGate
from harness.judgement.verdict import DISCRIMINATION_LIMIT, NOISE_LIMIT, RULES
from harness.records.lines import CaseRecord, RunRecord
from harness.system.status import Status, standing, worst

# Of sums of some thousand float64 terms, and of what JSON keeps in full.
_ROUNDING = 1e-9


def of_run(run: RunRecord) -> str:
    """What contradicts itself in a run's own line, a phrase; "" for nothing."""
    if run.emulated and not run.parts and run.device_kind != "npu-emulated":
        return f"the run is emulated and its device is {run.device}"
    if run.device_kind == "npu-emulated" and not run.emulated:
        return f"its device is {run.device} and the run is said not to be emulated"
    if not run.emulated and run.settings.get("fault_plan", "none") != "none":
        return "faults were planted, which the emulated NPU alone can, and it is not emulated"
    return ""


def of_case(case: CaseRecord, run: RunRecord | None) -> str:
    """What contradicts itself in a case's record, a phrase; "" for nothing."""
    return _origin(case, run) or _tries(case) or (_judged(case) if case.rules == RULES else "")


def _tries(case: CaseRecord) -> str:
    """The status against what the tries of the case gave."""
    if case.attempts and functools.reduce(standing, case.attempts) is not case.status:
        gave = ", ".join(status.value for status in case.attempts)
        return f"the status is {case.status.value}, and its tries gave {gave}"
    return ""


def _origin(case: CaseRecord, run: RunRecord | None) -> str:
    device = case.candidate.device if case.candidate is not None else None
    if device is not None:
        if device.emulated != (device.kind == "npu-emulated"):
            return f"its device is of kind {device.kind} and emulated is {device.emulated}"
        if device.emulated != case.emulated:
            return f"emulated is {case.emulated} and its device's is {device.emulated}"
        if device.spec.partition(":")[0] != device.kind:
            return f"its device is {device.spec} and of kind {device.kind}"
    if run is not None and case.emulated and not run.emulated:
        return "the case is emulated and its run is not"
    return ""


def _judged(case: CaseRecord) -> str:
    """The rules of this harness on the recorded numbers."""
    found = [finding.status for finding in case.findings]
    given = worst(found) if found else Status.PASS
    if case.status not in (Status.SKIP, given):
        return f"the status is {case.status.value} and the findings give another"
    if case.gate is not None and (problem := _gate(case.gate)):
        return problem
    must = _must(case)
    if must is not None and worst((must[0], case.status)) is not case.status:
        return f"the status is {case.status.value}, and {must[1]}, which is {must[0].value}"
    return ""


def _must(case: CaseRecord) -> tuple[Status, str] | None:
    """The least severe status that the numbers leave, and why; None when they leave a pass."""
    limits = {budget.limit(exact=exact) for exact in (True, False)}
    for row in case.budgets:
        if row.limit not in limits:
            return Status.FAIL_ACCURACY, f"the limit of output {row.name!r} is none of the rules'"
        if not row.within:
            text = f"output {row.name!r} is {row.worst_ratio:.3g} times its budget"
            return Status.FAIL_ACCURACY, text
    if case.operators is not None and case.operators.culprits:
        return Status.FAIL_ACCURACY, f"{case.operators.culprits} operators exceed their budgets"
    if any(not math.isfinite(output.min_cosine) for output in case.outputs):
        return Status.FAIL_NAN, "the cosine of an output is not a number"
    if case.gate is not None and not case.gate.error_rate_percent < ERROR_RATE_LIMIT_PERCENT:
        return Status.INCONCLUSIVE, f"the error rate is {case.gate.error_rate_percent:.4g} %"
    if not case.budgets:
        return (Status.INCONCLUSIVE, "no output was measured") if case.status.is_pass else None
    if len(case.labels) < 2:
        return Status.INCONCLUSIVE, "there is one image only"
    measured = case.discrimination
    if measured is not None and not measured.max_cosine < DISCRIMINATION_LIMIT:
        return Status.INCONCLUSIVE, f"two images agree with cosine {measured.max_cosine:.6f}"
    if any(not row.budget_nrmse < NOISE_LIMIT for row in case.budgets):
        return Status.INCONCLUSIVE, "the noise of the arithmetic hides an error"
    return None


def _gate(gate: DocumentedGate) -> str:
    """The documented table against its own rows."""
    matches = sum(row.match for row in gate.rows)
    if (gate.images, gate.top1_matches) != (len(gate.rows), matches):
        return f"the gate says Top-1 {gate.top1_matches}/{gate.images}, its rows otherwise"
    mean = math.fsum(row.cosine for row in gate.rows) / len(gate.rows) if gate.rows else math.nan
    rate = 100.0 * (1.0 - gate.mean_cosine)
    same = abs(mean - gate.mean_cosine) <= _ROUNDING and abs(rate - gate.error_rate_percent) <= 1e-7
    if math.isfinite(mean) and not same:
        return "the gate's mean cosine or error rate is not that of its rows"
    return ""
