"""One answer for who decides on an upgrade, from all that the folders of two runs hold.

Each part is judged as its own command does; the exit code is the worst of theirs.  A part that
neither folder holds decides nothing, and is named; one that only the new folder lacks makes the
answer incomplete, as cases and fingerprints without old ones do.  Operators, support and precheck
say something by themselves, and are judged alone where the old folder has none.

cases        `upgrade/compare`
operators    every call that does not pass fails, unless a row expects it; changed bits are listed
             where both runs are of one chip, format and setting, and are no failure
fingerprint  `records/fingerprint_changes`
support      an answer that got worse fails; what CANN refused before is said
precheck     `precheck` of the new folder
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.devices.spec import EMULATED_MEANS
from harness.qualification import support
from harness.qualification.grouping import counted
from harness.qualification.support import Support
from harness.records import fingerprint_changes
from harness.records.fingerprint_changes import Difference
from harness.records.lines import CaseRecord
from harness.system.status import ExitCode, Status, UsageProblem, worst_exit_code
from harness.upgrade import compare, operators
from harness.upgrade.compare import RunComparison
from harness.upgrade.folder import Folder
from harness.upgrade.operators import Calls, Rows
from harness.upgrade.precheck import check
from harness.upgrade.precheck.check import Checked

WORDS = {
    ExitCode.OK: "READY: nothing got worse",
    ExitCode.FAILED: "NOT READY: something fails or got worse",
    ExitCode.INFRASTRUCTURE: "NOT JUDGED: trouble of the infrastructure alone",
    ExitCode.IMPROVED: "READY, and better than expected: update what is expected",
    ExitCode.INCOMPLETE: "INCOMPLETE: something is missing",
}
_ABSENT = "in neither folder: nothing is decided by it"
_ONLY_OLD = "in the old folder only: make it for the new one too"
_ONLY_NEW = "the old folder has none, so the new one is judged alone"


@dataclasses.dataclass(frozen=True)
class Part:
    """What one kind of evidence says; `code` is None where neither folder has it."""

    name: str
    code: ExitCode | None
    said: str


@dataclasses.dataclass(frozen=True)
class Decision:
    """The answer, with what each part found; `contradicted`: models whose calls are all qualified
    and that fail as a whole."""

    old: str
    new: str
    emulated: bool
    parts: tuple[Part, ...]
    cases: RunComparison | None
    operators: tuple[Calls, ...]
    arithmetic: tuple[Difference, ...]
    support: tuple[Support, ...]
    precheck: tuple[Checked, ...]
    contradicted: tuple[str, ...]

    @property
    def code(self) -> ExitCode:
        """The worst of all parts."""
        return worst_exit_code(part.code for part in self.parts if part.code is not None)

    @property
    def line(self) -> str:
        """The answer in one line."""
        said = f"{WORDS[self.code]} (exit code {int(self.code)}): {self.old} -> {self.new}"
        return said + (f" ({EMULATED_MEANS})" if self.emulated else "")


def decide(
    old: Folder, new: Folder, rows: Rows | None = None, catalogue: Path | None = None
) -> Decision:
    """Judge the new run beside the old one.

    `catalogue`: of the calls, where it is not the shipped one.  Raises UsageProblem where the new
    folder holds neither cases nor calls, and for bad expected rows or catalogues.
    """
    if new.cases is None and not new.operators:
        raise UsageProblem(
            f"{new.path} holds nothing to decide by: neither results.jsonl nor operators.jsonl."
        )
    cases, comparison = _cases(old, new)
    calls = tuple(operators.judge(kind, old, new, rows, catalogue) for kind in new.operators)
    arithmetic, differences = _arithmetic(old, new)
    parts = (
        cases,
        *_operator_parts(old, calls),
        arithmetic,
        _support(old, new),
        _precheck(old, new),
    )
    return Decision(
        old=old.stack,
        new=new.stack,
        emulated=_emulated(old, new),
        parts=parts,
        cases=comparison,
        operators=calls,
        arithmetic=differences,
        support=new.support or (),
        precheck=(*(old.precheck or ()), *(new.precheck or ())),
        contradicted=_contradicted(new, calls),
    )


def _emulated(*sides: Folder) -> bool:
    return any(
        any(found.run.emulated for found in side.operators.values())
        or any(case.emulated for case in (side.cases.cases if side.cases else ()))
        or bool(side.fingerprint and side.fingerprint.emulated)
        for side in sides
    )


def _one_sided(name: str, old: object, new: object) -> Part | None:
    """The part where a folder lacks what has to be on both sides; None where none does."""
    if new is None:
        return Part(name, None, _ABSENT) if old is None else Part(
            name, ExitCode.INCOMPLETE, _ONLY_OLD
        )  # fmt: skip
    return Part(name, ExitCode.INCOMPLETE, _ONLY_NEW) if old is None else None


def _cases(old: Folder, new: Folder) -> tuple[Part, RunComparison | None]:
    if old.cases is None or new.cases is None:
        part = _one_sided("cases", old.cases, new.cases)
        assert part is not None
        return (part if new.cases is None else _alone(part.said, new.cases.cases)), None
    try:
        found = compare.compare(old.cases, new.cases, ended=new.cases.end is not None)
    except UsageProblem as problem:  # nothing in common
        return _alone(str(problem), new.cases.cases), None
    counts = Counter(case.change.value for case in found.cases)
    said = ", ".join(f"{count} {what}" for what, count in counts.items())
    return Part("cases", found.code, f"{counted(len(found.cases), 'case')}: {said}"), found


def _alone(said: str, cases: Sequence[CaseRecord]) -> Part:
    """Cases beside none: incomplete, and those that do not pass need none to stand beside."""
    bad = [case for case in cases if not case.status.is_pass]
    if not bad:
        return Part("cases", ExitCode.INCOMPLETE, said)
    named = ", ".join(f"{case.case_id} ({case.status.value})" for case in bad[:6])
    failed = any(not case.status.is_error for case in bad)
    code = ExitCode.FAILED if failed else ExitCode.INCOMPLETE
    return Part("cases", code, f"{said.rstrip('.')}; {len(bad)} do not pass: {named}")


def _operator_parts(old: Folder, calls: Sequence[Calls]) -> list[Part]:
    have = {(one.results.run.dtype, one.results.run.numerics) for one in calls}
    parts = [_said(one, old) for one in calls]
    parts += [
        Part(f"operators, {dtype} ({numerics})", ExitCode.INCOMPLETE, _ONLY_OLD)
        for dtype, numerics in old.operators
        if (dtype, numerics) not in have
    ]
    return parts or [Part("operators", None, _ABSENT)]


def _said(one: Calls, old: Folder) -> Part:
    made, run = one.certificate, one.results.run
    total = sum(made.statuses.values())
    bad, known = (sum(len(g.calls) for g in groups) for groups in (one.failing, one.known))
    whole = sum(model.holds for model in made.models)
    said = [
        f"{made.statuses.get(Status.PASS.value, 0)} of {counted(total, 'distinct call')} qualified",
        f"{whole} of {counted(len(made.models), 'model')} whole",
    ]
    said += [f"{bad} fail in {counted(len(one.failing), 'group')}"] if bad else []
    said += [f"{known} fail as expected"] if known else []
    said += [f"{len(one.better)} pass that were expected to fail"] if one.better else []
    if not one.results.ended or run.shard:
        said.append("a shard alone" if run.shard else "cut short")
    if made.derived:
        said.append(f"calls of {made.derived} in {run.dtype}, models that cast within make others")
    if missing := sum(model.missing > 0 for model in made.models):
        said.append(f"{counted(missing, 'model')} with calls that were not run")
    if (run.dtype, run.numerics) not in old.operators:
        said.append("the old folder has none: bits are not compared")
    elif one.apart:
        said.append(f"bits are not compared: the old run is of {one.apart}")
    else:
        said.append(f"{len(one.changed)} changed by bits")
    return Part(f"operators, {run.dtype} ({run.numerics})", one.code, "; ".join(said))


def _arithmetic(old: Folder, new: Folder) -> tuple[Part, tuple[Difference, ...]]:
    name = "fingerprint"
    if part := _one_sided(name, old.fingerprint, new.fingerprint):
        return part, ()
    assert old.fingerprint is not None and new.fingerprint is not None
    try:
        found = tuple(fingerprint_changes.differences(old.fingerprint, new.fingerprint))
    except UsageProblem as problem:
        return Part(name, ExitCode.INCOMPLETE, str(problem)), ()
    counts = Counter(one.change.value for one in found)
    said = ", ".join(f"{count} traits: {what}" for what, count in counts.items())
    code = worst_exit_code(fingerprint_changes.codes(found))
    return Part(name, code, said or "every trait is the same"), found


_ORDER = ("accepted", "unknown", "refused")


def _support(old: Folder, new: Folder) -> Part:
    name = "support"
    if new.support is None:
        part = _one_sided(name, old.support, new.support)
        assert part is not None
        return part
    if old.support is None:
        refused = _names(one for one in new.support if one.answer == "refused")
        text = _ONLY_NEW + (f"; refused: {refused}" if refused else "")
        return Part(name, support.code(new.support), text)
    before = {(one.name, one.dtype): one.answer for one in old.support}
    after = {(one.name, one.dtype): one for one in new.support}
    worse = [
        one
        for key, one in after.items()
        if _ORDER.index(one.answer) > _ORDER.index(before.get(key, "accepted"))
    ]
    gone = [f"{model} in {dtype}" for model, dtype in before if (model, dtype) not in after]
    codes = {support.code([one]) for one in worse} | ({ExitCode.INCOMPLETE} if gone else set())
    as_before = [one for one in after.values() if one.answer != "accepted" and one not in worse]
    said = [f"{counted(len(after), 'model')}: {len(worse)} worse than before"]
    said += [f"worse: {_names(worse)}"] if worse else []
    said += [f"as before, not accepted: {_names(as_before)}"] if as_before else []
    said += [f"not asked any more: {', '.join(gone[:6])}"] if gone else []
    return Part(name, worst_exit_code(codes), "; ".join(said))


def _names(found: Iterable[Support]) -> str:
    listed = [f"{one.name} in {one.dtype} ({one.answer})" for one in found]
    return ", ".join(listed[:6]) + f" and {len(listed) - 6} more" * (len(listed) > 6)


def _precheck(old: Folder, new: Folder) -> Part:
    name = "precheck"
    if new.precheck is None:
        part = _one_sided(name, old.precheck, new.precheck)
        assert part is not None
        return part
    said = [
        f"{one.version}: {'; '.join(one.failures) or one.unavailable or 'nothing is wrong'}"
        for one in new.precheck
    ]
    return Part(name, check.exit_code(new.precheck), ". ".join(said))


def _contradicted(new: Folder, calls: Sequence[Calls]) -> tuple[str, ...]:
    """Models that fail as a whole with all calls qualified: their operators do not show why."""
    whole = {
        (model.name, one.results.run.dtype, one.results.run.numerics)
        for one in calls
        for model in one.certificate.models
        if model.holds
    }
    return tuple(
        f"{case.case_id}: {case.status.value}"
        for case in (new.cases.cases if new.cases else ())
        if (case.case.model.name, case.case.dtype, case.case.numerics) in whole
        and not case.status.is_error
        and case.status not in (Status.PASS, Status.SKIP, Status.INCONCLUSIVE)
    )
