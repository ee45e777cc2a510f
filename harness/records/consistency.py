"""Whether a record can be what the rules gave: its status is held against the numbers beside it.

A record's status is a word in a file.  What every version of the rules had in common is applied
again to every record, whatever rules or schema it claims: a status is never better than its own
findings, a ratio never above its own limit.  Where the rules are those of this harness, its limits
are applied as well; of other rules it is said that they are others, and what these would say.
Whoever changes status and numbers alike is seen by a signature only.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from harness.judgement import budget
from harness.judgement.documented import ERROR_RATE_LIMIT_PERCENT, DocumentedGate
from harness.judgement.separation import NOISE_LIMIT, SEPARATION_LIMIT
from harness.judgement.verdict import RULES
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
    if not run.emulated and "emulated_kernels" in run.settings:
        return "it took other kernels, which the emulated NPU alone can, and it is not emulated"
    return ""


def of_case(case: CaseRecord, run: RunRecord | None) -> str:
    """What contradicts itself in a case's record, a phrase; "" for nothing."""
    found = _origin(case, run) or _own(case) or _tries(case)
    return found or (_by_rules(case) if case.rules == RULES else "")


def other_rules(cases: Sequence[CaseRecord]) -> str:
    """A line on verdicts of other rules than this harness', older ones mostly; "" for none."""
    found = [case for case in cases if case.rules != RULES and _is_judged(case)]
    if not found:
        return ""
    names = ", ".join(sorted({f"rules {case.rules}" if case.rules else "older" for case in found}))
    text = f"{len(found)} case{'s' * (len(found) != 1)} judged by other rules than these ({names})"
    wrong = [(case.case_id, why) for case in found if (why := _by_rules(case))]
    if not wrong:
        return f"{text}."
    return f"{text}: by these {len(wrong)} would not stand, as {wrong[0][0]}: {wrong[0][1]}."


def _is_judged(case: CaseRecord) -> bool:
    """Whether rules were applied; records of cases that came to no comparison name none."""
    judged = (Status.PASS, Status.INCONCLUSIVE, Status.FAIL_ACCURACY)
    return bool(case.status in judged or case.gate or case.outputs or case.budgets)


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
        if "emulator" in device.details and not device.emulated:
            return f"its device is {device.spec} and names its emulator"
    if run is None:
        return ""
    if case.emulated and not run.emulated:
        return "the case is emulated and its run is not"
    # Parts that were merged may be of several kinds.
    if device is not None and not run.parts and device.kind != run.device_kind:
        return f"its device is of kind {device.kind} and the run's is {run.device}"
    return ""


def _own(case: CaseRecord) -> str:
    """What no version of the rules allowed, by the record's own findings, rows and limits."""
    found = [finding.status for finding in case.findings]
    if found and _is_better(case, worst(found)):
        return f"the status is {case.status.value} and a finding is {worst(found).value}"
    return (_gate(case.gate) if case.gate is not None else "") or _better(case, _at_least(case))


def _by_rules(case: CaseRecord) -> str:
    """The rules of this harness on the recorded numbers."""
    given = worst([finding.status for finding in case.findings] or [Status.PASS])
    if case.status is not given:
        return f"the status is {case.status.value} and the findings give {given.value}"
    return _better(case, _now(case))


def _is_better(case: CaseRecord, status: Status) -> bool:
    return worst((status, case.status)) is not case.status


def _better(case: CaseRecord, must: tuple[Status, str] | None) -> str:
    if must is None or not _is_better(case, must[0]):
        return ""
    return f"the status is {case.status.value}, and {must[1]}, which is {must[0].value}"


def _at_least(case: CaseRecord) -> tuple[Status, str] | None:
    """The least severe status that any rules leave these numbers, and why; None for a pass."""
    if any(not math.isfinite(output.min_cosine) for output in case.outputs):
        return Status.FAIL_NAN, "the cosine of an output is not a number"
    for row in case.budgets:
        if not row.within:
            text = f"output {row.name!r} is {row.worst_ratio:.3g} times its budget"
            return Status.FAIL_ACCURACY, text
    if case.operators is not None and case.operators.culprits:
        return Status.FAIL_ACCURACY, f"{case.operators.culprits} operators exceed their budgets"
    if case.gate is not None and not case.gate.error_rate_percent < ERROR_RATE_LIMIT_PERCENT:
        return Status.INCONCLUSIVE, f"the error rate is {case.gate.error_rate_percent:.4g} %"
    return None


def _now(case: CaseRecord) -> tuple[Status, str] | None:
    """The same by the limits of this harness."""
    limits = {budget.limit(exact=exact) for exact in (True, False)}
    for row in case.budgets:
        if row.limit not in limits:
            return Status.FAIL_ACCURACY, f"the limit of output {row.name!r} is none of the rules'"
    # Of a module of the user's own operators alone may have been judged, all of them.
    if case.case.model.kind == "module" and case.operators is not None and case.operators.complete:
        if not case.budgets or len(case.labels) < 2:
            return None
    if not case.budgets:
        return (Status.INCONCLUSIVE, "no output was measured") if case.status.is_pass else None
    if len(case.labels) < 2:
        return Status.INCONCLUSIVE, "there is one image only"
    apart = case.separation
    if apart is None or not apart.distance > SEPARATION_LIMIT:
        seen = "not measured" if apart is None else f"{apart.distance:.3g} times what passes"
        return Status.INCONCLUSIVE, f"the least distance of two images is {seen}"
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
