"""Compares two runs: what changed between two environments, and whether it is more than noise.

How noise is known.  Each run repeats its forward and compares the outputs bit by bit.  Where they
were equal the device is deterministic: then no difference between two runs on the same weights
and images is noise of the measurement, it is another computation.  What is left to tell is another
order of summation, which costs nothing, from a greater error:

* The change of each image's budget ratio, as a geometric mean over the images with a 95 % interval
  (paired t interval of the logarithms).  An interval that holds 1 shows no direction: the error
  moved about as rounding does.
* The greatest budget ratio, as in the expected results: beyond what two honest roundings differ by
  (`expected.tolerance`) it is worse or better.  A change in one direction that stays below that is
  called systematic, and is no failure.

Speed: the geometric means of the timed forwards, as a ratio with Welch's 95 % interval of the
difference of the logarithms (B. L. Welch, Biometrika 34, 1947), which needs no equal variances.
An interval that holds 1 is no change.  With the usual two forwards it is wide: `--repeat 10`.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable, Sequence

from harness.judgement.intervals import Interval, paired_interval, welch_interval
from harness.records import fingerprint_changes
from harness.records.fingerprint_changes import Difference
from harness.records.leg import LegRecord
from harness.records.lines import CaseRecord
from harness.records.results_file import Run
from harness.system import environment
from harness.system.status import ExitCode, Status, UsageProblem, worst_exit_code
from harness.upgrade import expected
from harness.upgrade.conditions import Term


class Change(enum.Enum):
    """What became of one case between two runs."""

    IDENTICAL = "identical"  # every number
    NOISE = "inside noise"
    SYSTEMATIC = "systematic, within rounding"
    BETTER = "better"
    WORSE = "worse"
    ERROR = "not judged"  # the new run has no verdict
    ADDED = "only in the new run"
    MISSING = "missing in the new run"
    REFUSED = "not comparable"


@dataclasses.dataclass(frozen=True)
class CaseChange:
    """One case in both runs.

    `why`: what the judgement rests on.  `error`: the images' budget ratios, of the output where
    they changed most; `speed`, `cpu_speed`: throughput of device and CPU; None: not measured.
    """

    case_id: str
    change: Change
    why: str
    old: CaseRecord | None = None
    new: CaseRecord | None = None
    error: Interval | None = None
    speed: Interval | None = None
    cpu_speed: Interval | None = None

    @property
    def emulated(self) -> bool:
        """Whether either side ran on the emulator."""
        return any(side is not None and side.emulated for side in (self.old, self.new))


@dataclasses.dataclass(frozen=True)
class RunComparison:
    """Two runs beside each other.

    `environment`: name, before, after of everything that differs; `hits`: a sentence for every
    condition that was met; `code`: the exit code that all of it calls for; `arithmetic`: what
    differs between the devices' fingerprints, where both runs have one.
    """

    environment: tuple[tuple[str, str, str], ...]
    cases: tuple[CaseChange, ...]
    hits: tuple[str, ...]
    code: ExitCode
    arithmetic: tuple[Difference, ...] = ()


def compare(
    old: Run, new: Run, fail_on: Sequence[Term] = (), *, ended: bool = True
) -> RunComparison:
    """Compare two runs.

    `fail_on`: conditions that fail; they replace the judgement of numbers, never that of
    statuses.  `ended`: whether the new run came to its end.  Raises UsageProblem when no case can
    be compared, with the reason, and for a condition that no case can meet.
    """
    before = {case.case_id: case for case in old.cases}
    after = {case.case_id: case for case in new.cases}
    cases = [_case(before.get(key), after.get(key)) for key in {**before, **after}]
    _require_comparable(before, after, cases)
    hits = [hit for term in fail_on for hit in _hits(term, cases)]
    arithmetic = arithmetic_changes(old, new)
    code = _code(new, cases, hits, by_numbers=not fail_on, ended=ended)
    return RunComparison(
        environment=environment_changes(old, new),
        cases=tuple(cases),
        hits=tuple(hits),
        code=worst_exit_code({code, *fingerprint_changes.codes(arithmetic)}),
        arithmetic=tuple(arithmetic),
    )


def _case(old: CaseRecord | None, new: CaseRecord | None) -> CaseChange:
    if old is None or new is None:
        present = new or old
        assert present is not None
        change = Change.ADDED if old is None else Change.MISSING
        return CaseChange(present.case_id, change, present.status.value, old, new)
    if reason := incomparable(old, new):
        return CaseChange(new.case_id, Change.REFUSED, reason, old, new)
    error = _error_interval(old, new)
    change, why = _judge(old, new, error)
    return CaseChange(
        new.case_id,
        change,
        why,
        old,
        new,
        error=error,
        speed=_speed(old.candidate, new.candidate),
        cpu_speed=_speed(old.reference, new.reference),
    )


def incomparable(old: CaseRecord, new: CaseRecord) -> str:
    """Why two records are not of the same thing; "" when they are."""
    for name, before, after in (
        ("weights", old.weights_sha256, new.weights_sha256),
        ("inputs", old.inputs_sha256, new.inputs_sha256),
    ):
        if before and after and before != after:
            text = f"different {name} (sha256 {before[:12]} and {after[:12]})"
            if name == "weights" and new.case.model.kind == "architecture":
                text += ": random weights are made by each torch anew; give both a --model DIR"
            return text
    for name in ("dtype", "numerics", "batch_size"):
        if getattr(old.case, name) != getattr(new.case, name):
            return f"different {name}: {getattr(old.case, name)} and {getattr(new.case, name)}"
    if old.arithmetic and new.arithmetic and old.arithmetic != new.arithmetic:
        return (
            f"the device declares another arithmetic in profile {new.case.numerics}: "
            f"{old.arithmetic} and {new.arithmetic}, so that the budgets differ"
        )
    return ""


def _judge(old: CaseRecord, new: CaseRecord, error: Interval | None) -> tuple[Change, str]:
    if new.status.is_error:
        return Change.ERROR, f"{new.status.value}: no verdict"
    if old.status is not new.status:
        better = new.status.is_pass
        return Change.BETTER if better else Change.WORSE, "the status changed"
    if (old.budgets, old.outputs, old.gate) == (new.budgets, new.outputs, new.gate):
        return Change.IDENTICAL, "every number is equal"
    if old.budget_ratio is None or new.budget_ratio is None:
        return Change.NOISE, "no budget ratio on both sides"
    if not (_deterministic(old) and _deterministic(new)):
        return Change.NOISE, "repeats of the same forward differ: the noise is not bounded"
    allowed = expected.tolerance(new)
    for change, grows in (
        (Change.WORSE, new.budget_ratio > allowed * old.budget_ratio),
        (Change.BETTER, new.budget_ratio * allowed < old.budget_ratio),
    ):
        if grows:
            return change, f"beyond {allowed:g} times, what two honest roundings differ by"
    if math.isnan(new.budget_ratio) != math.isnan(old.budget_ratio):
        worse = math.isnan(new.budget_ratio)
        return Change.WORSE if worse else Change.BETTER, "not a number on one side"
    if error is None or error.holds_one:
        return Change.NOISE, "repeats bitwise equal; another rounding, in no direction"
    return Change.SYSTEMATIC, f"repeats bitwise equal; one direction, below {allowed:g} times"


def _deterministic(case: CaseRecord) -> bool:
    """Whether the forward was repeated with the same bits."""
    leg = case.candidate
    repeated = leg is not None and bool(leg.timing.forward_seconds)
    return repeated and not any(finding.status is Status.FLAKY for finding in case.findings)


def _error_interval(old: CaseRecord, new: CaseRecord) -> Interval | None:
    before = {output.name: output.image_ratios for output in old.budgets}
    found = [
        interval
        for output in new.budgets
        if (interval := paired_interval(before.get(output.name, ()), output.image_ratios))
    ]
    return max(found, key=lambda interval: abs(math.log(interval.value)), default=None)


def _speed(old: LegRecord | None, new: LegRecord | None) -> Interval | None:
    """Throughput new / old; an emulated device is never compared with a real one."""
    if old is None or new is None or old.device.emulated is not new.device.emulated:
        return None
    if old.timing.images != new.timing.images:
        return None
    # Seconds the other way round: throughput is their inverse.
    return welch_interval(new.timing.forward_seconds, old.timing.forward_seconds)


_VALUES: dict[str, Callable[[CaseRecord], float | None]] = {
    "budget_ratio": lambda case: case.budget_ratio,
    "error_rate": lambda case: case.gate.error_rate_percent if case.gate else None,
    "mae": lambda case: case.gate.mae if case.gate else None,
    "top1": lambda case: case.gate.top1_agreement_percent if case.gate else None,
    "speed": lambda case: (
        case.candidate.timing.images_per_second
        if case.candidate and case.candidate.timing.forward_seconds
        else None
    ),
}


def _hits(term: Term, cases: Sequence[CaseChange]) -> list[str]:
    """A sentence for every case that meets the condition."""
    found, judged = [], 0
    for case in cases:
        if case.old is None or case.new is None or case.change is Change.REFUSED:
            continue
        value, text = _value(term, case)
        if value is None:
            continue
        judged += 1
        # A ratio of times is believed only when its interval shows a change at all.
        noise = term.relative and term.metric == "speed" and case.speed and case.speed.holds_one
        if term.holds(value) and not noise:
            found.append(f"{case.case_id}: {term.text} is met, {text}")
    if not judged:
        need = "two timed forwards in both runs" if term.metric == "speed" else "this number"
        raise UsageProblem(
            f"The condition {term.text} judges nothing: no case of both runs has {need}."
        )
    return found


def _value(term: Term, case: CaseChange) -> tuple[float | None, str]:
    assert case.old is not None and case.new is not None
    old, new = (_VALUES[term.metric](side) for side in (case.old, case.new))
    if not term.relative:
        return new, f"{term.metric} {new:.4g}" if new is not None else ""
    if term.metric == "speed":
        if case.speed is None:
            return None, ""
        low, high = case.speed.low, case.speed.high
        return case.speed.value, f"speed {case.speed.value:.3g}x ({low:.3g} .. {high:.3g})"
    if old is None or new is None:
        return None, ""
    factor = new / old if old else (1.0 if new == old else math.inf)
    return factor, f"{term.metric} {old:.3g} -> {new:.3g} ({factor:.3g}x)"


def _require_comparable(
    before: dict[str, CaseRecord], after: dict[str, CaseRecord], cases: Sequence[CaseChange]
) -> None:
    common = before.keys() & after.keys()
    if not common:
        profiles = [
            "/".join(sorted({case.case.numerics for case in side.values()})) or "no case"
            for side in (before, after)
        ]
        raise UsageProblem(
            "The two runs have no case in common, so there is nothing to compare (the old one has "
            f"{len(before)} cases, {profiles[0]}, the new one {len(after)}, {profiles[1]})."
        )
    refused = [case for case in cases if case.change is Change.REFUSED]
    if len(refused) == len(common):
        raise UsageProblem(
            f"The two runs cannot be compared: {refused[0].case_id}: {refused[0].why}"
            + (f" (and {len(refused) - 1} more cases)." if len(refused) > 1 else ".")
        )


def _code(
    new: Run, cases: Sequence[CaseChange], hits: Sequence[str], *, by_numbers: bool, ended: bool
) -> ExitCode:
    codes = {ExitCode.FAILED} if hits else set()
    if new.missing or not ended:
        codes.add(ExitCode.INCOMPLETE)
    for case in cases:
        by_status = case.old and case.new and case.old.status is not case.new.status
        if case.change in (Change.MISSING, Change.REFUSED):
            codes.add(ExitCode.INCOMPLETE)
        elif case.change is Change.ERROR:
            codes.add(ExitCode.INFRASTRUCTURE)
        elif case.change is Change.WORSE and (by_numbers or by_status):
            codes.add(ExitCode.FAILED)
        elif case.change is Change.BETTER:
            codes.add(ExitCode.IMPROVED)
        elif case.change is Change.ADDED and case.new is not None:
            if case.new.status.is_error:
                codes.add(ExitCode.INFRASTRUCTURE)
            else:
                fine = case.new.status.is_pass
                codes.add(ExitCode.IMPROVED if fine else ExitCode.FAILED)
    return worst_exit_code(codes)


def arithmetic_changes(old: Run, new: Run) -> list[Difference]:
    """What differs between the fingerprints that two runs recorded; none where one has none.

    Raises UsageProblem where they have no format in common.
    """
    before, after = (side.run.arithmetic if side.run is not None else None for side in (old, new))
    if before is None or after is None:
        return []
    return fingerprint_changes.differences(before, after)


def environment_changes(old: Run, new: Run) -> tuple[tuple[str, str, str], ...]:
    """Name, before, after of every version, setting and device that differs between two runs."""
    return tuple(environment.differences(_environment(old), _environment(new), "not recorded"))


def _environment(run: Run) -> dict[str, str]:
    """Versions, settings and devices of a run by name, the device's side by numerics profile."""
    found = dict(run.run.environment) if run.run is not None else {}
    for case in run.cases:
        for side, leg in (("CPU", case.reference), ("device", case.candidate)):
            if leg is None:
                continue
            device = leg.device
            own = {"name": device.name, "kind": device.kind, "uuid": device.uuid or "none"}
            own |= device.details
            for key, value in own.items():
                found.setdefault(f"{side} {key}", value)
            for key, value in leg.numerics.items():
                found.setdefault(f"{side} {key} ({case.case.numerics}, {case.case.dtype})", value)
    return found
