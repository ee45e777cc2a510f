"""Compares a record with its expected row: what changed, in one sentence, and how to accept it.

A change counts when it is more than honest rounding can make, the same for every case:

* Status, Top-1: any change.
* Budget ratio: two honest roundings of one computation were never measured to differ by more
  than 2.2 times (float16, bfloat16) or 3.4 times (float32) for any image (docs/verdict.md: engines
  that others wrote beside the CPU).  A ratio further from its row than that is another
  computation, not another order of summation.
* Error rate: 1 - cosine is a square of the error, and what it sums may come down to a single
  logit of each image.  The quotient of two honest ones then follows Fisher's F distribution with
  as many degrees of freedom as there are images that make up the error rate; its 99.99 % point
  is what counts as a change.  Below 1e-10 % it is the rounding of the cosine's own float64 sums.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from harness.cases.case import Case
from harness.judgement import budget
from harness.judgement.documented import DocumentedGate
from harness.judgement.operator_rows import AS_CANN, OperatorRow
from harness.records.expectation import Expectation, ExpectedRow, Outcome
from harness.records.lines import CaseRecord
from harness.system.status import Stage

EXACT_TOLERANCE = 3.4
FORMAT_TOLERANCE = 2.2
ERROR_RATE_FLOOR_PERCENT = 1e-10
_ALARM_LEVEL = 1e-4


@dataclasses.dataclass(frozen=True)
class Update:
    """What `--update-expected` was given; a row for the worse needs a reason, a failure a link."""

    reason: str = ""
    link: str = ""


@dataclasses.dataclass(frozen=True)
class Expected:
    """What the cases of a run are held against.

    `rows`: case id -> row.  `only`: the cases that are compared at all, by id; None: all.
    `command`: the command line of this run.  `update`: rewrite the rows of what changed.
    """

    rows: Mapping[str, ExpectedRow]
    only: Mapping[str, Case] | None = None
    command: str = "pytest"
    update: Update | None = None

    def beside(self, record: CaseRecord) -> CaseRecord:
        """The record with what it was compared with."""
        return record.model_copy(update={"expected": self.expectation(record)})

    def expectation(self, record: CaseRecord) -> Expectation | None:
        """Compare a record with its row; None when the case is not compared."""
        if self.only is not None:
            known = self.only.get(record.case_id)
            # An id alone may name another model of the same name, given on the command line.
            if known is None or dataclasses.replace(known, tier=record.case.tier) != record.case:
                return None
        row = self.rows.get(record.case_id)
        found = compare(record, row, command=self.command)
        if self.update is None or found.outcome not in (
            Outcome.NEW,
            Outcome.IMPROVED,
            Outcome.WORSE,
        ):
            return found
        return _updated(record, row, found, self.update)


@dataclasses.dataclass(frozen=True)
class _Change:
    """One number beside its row; `direction`: 1 worse, -1 better, 0 within the tolerance."""

    name: str
    before: str
    after: str
    direction: int

    def __str__(self) -> str:
        return f"{self.name} {self.before} -> {self.after}"


def compare(record: CaseRecord, row: ExpectedRow | None, *, command: str = "pytest") -> Expectation:
    """Compare a record with its expected row.

    `command`: the command line of the run, from which the one that accepts the result is made.
    """
    now = record.status
    if row is None:
        if now.is_error:
            return Expectation(outcome=Outcome.UNJUDGED, sentence=_unjudged(record, None))
        sentence = (
            f"{record.case_id} is new: no expected row; it gave {_numbers(record)}."
            f"{_why(record)} {_accept(record, command, worse=not now.is_pass)}"
        )
        return Expectation(outcome=Outcome.NEW, sentence=sentence)
    if now.is_error and row.status is not now:
        return Expectation(outcome=Outcome.UNJUDGED, sentence=_unjudged(record, row), row=row)
    changes = _changes(record, row)
    worse = any(change.direction > 0 for change in changes)
    if worse or any(change.direction < 0 for change in changes):
        word = "worse" if worse else "better"
        shown = [c for c in changes if c.direction or c.name == "budget ratio"]
        moved = any(c.direction and c.name == "budget ratio" for c in changes)
        allowed = f" (rounding explains {tolerance(record, row):g} times)" if moved else ""
        sentence = (
            f"{record.case_id} is {word} than expected: {', '.join(map(str, shown))}{allowed}."
            f"{_why(record)} {_accept(record, command, worse=worse)}"
        )
        outcome = Outcome.WORSE if worse else Outcome.IMPROVED
        return Expectation(outcome=outcome, sentence=sentence, row=row)
    if now.is_pass:
        return Expectation(outcome=Outcome.SAME, row=row)
    sentence = f"{record.case_id}: known failure {now.value}: {row.reason} ({row.link})"
    return Expectation(outcome=Outcome.KNOWN, sentence=sentence, row=row)


def tolerance(record: CaseRecord, row: ExpectedRow | None = None) -> float:
    """By which factor the budget ratio may change without being another computation."""
    if row is not None and row.tolerance is not None:
        return row.tolerance
    exact = all(output.limit == budget.EXACT_LIMIT for output in record.budgets)
    return EXACT_TOLERANCE if exact else FORMAT_TOLERANCE


def error_rate_tolerance(gate: DocumentedGate) -> float:
    """By which factor the error rate may change by chance: a point of the F distribution.

    Degrees of freedom: the participation ratio (sum e)^2 / sum e^2 of the images' own errors e,
    1 when one image makes up all of it, the number of images when they share it evenly.
    """
    import scipy.special  # here: it would take a good part of every start

    floor = ERROR_RATE_FLOOR_PERCENT / 100.0
    errors = np.array([max(floor, 1.0 - row.cosine) for row in gate.rows])
    freedom = float(np.sum(errors)) ** 2 / float(np.sum(errors**2))
    return float(scipy.special.fdtri(freedom, freedom, 1.0 - _ALARM_LEVEL))


def culprit(record: CaseRecord) -> str:
    """Where it went wrong, as far as the record names a place; "" otherwise."""
    found = record.localization.culprits[:1] if record.localization else []
    if not found and record.operators is not None and record.operators.culprits:
        found = list(record.operators.worst[:1])
    return "".join(f"{row.operator} in {row.module} (operator {row.index})" for row in found)


def as_cann(record: CaseRecord) -> list[OperatorRow]:
    """The culprits of a failure that CANN's published methods explain whole; else none.

    Every culprit is computed so, the device's forward pass is that of its operators, and nothing
    else was found about the device.
    """
    place, check = record.localization, record.operators
    found = place.culprits if place is not None else []
    if not found and check is not None and check.culprits:
        found = list(check.worst[: check.culprits])
    explained = all(row.method is not None and row.method.agrees for row in found)
    counted = check is None or check.as_cann == check.culprits
    elsewhere = place is not None and place.reproduced is False
    besides = any(one.stage not in (Stage.COMPARE, Stage.REFERENCE) for one in record.findings)
    return found if explained and counted and not elsewhere and not besides else []


def _as_cann_reason(rows: Sequence[OperatorRow]) -> str:
    said = (
        f"{row.operator} {AS_CANN}: {row.method.what} ({row.method.source})"
        for row in rows
        if row.method is not None
    )
    return "; ".join(dict.fromkeys(said))


def _changes(record: CaseRecord, row: ExpectedRow) -> list[_Change]:
    found = []
    if row.as_cann and record.status is row.status and not as_cann(record):
        found.append(_Change("culprits", f"all {AS_CANN}", f"not all {AS_CANN}", 1))
    if record.status is not row.status:
        direction = -1 if record.status.is_pass else 1
        found.append(_Change("status", row.status.value, record.status.value, direction))
    now = _measured(record)
    for key, name in (
        ("budget_ratio", "budget ratio"),
        ("error_rate_percent", "error rate in percent"),
        ("top1", "Top-1"),
    ):
        before, after = getattr(row, key), now[key]
        if before is None:
            continue
        # Without a number the status is worse already, or nobody looked.
        direction = int(record.status is row.status)
        if after is not None:
            direction = _direction(key, before, after, record, row)
        found.append(_Change(name, _text(before), _text(after), direction))
    return found


def _text(value: object) -> str:
    if value is None:
        return "not measured"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _direction(
    key: str, before: object, after: object, record: CaseRecord, row: ExpectedRow
) -> int:
    if key == "top1":
        (same, images), (same_now, images_now) = (
            map(int, str(text).split("/")) for text in (before, after)
        )
        if images != images_now:
            return 1
        return (same_now < same) - (same_now > same)
    old, new = float(str(before)), float(str(after))
    if key == "budget_ratio":
        factor = tolerance(record, row)
    else:
        assert record.gate is not None
        factor = error_rate_tolerance(record.gate)
        old, new = (max(value, ERROR_RATE_FLOOR_PERCENT) for value in (old, new))
    if np.isnan(old) or np.isnan(new):
        return int(np.isnan(new)) - int(np.isnan(old))
    return int(new > old * factor) - int(new * factor < old)


def _updated(
    record: CaseRecord, row: ExpectedRow | None, found: Expectation, update: Update
) -> Expectation:
    """Make the row that replaces `row`, or say what is missing for it."""
    failing = not record.status.is_pass
    worse = found.outcome is Outcome.WORSE
    reason, link = update.reason.strip(), update.link.strip()
    explained_by = as_cann(record) if failing else []
    if explained_by and explained_by[0].method is not None:
        reason = reason or _as_cann_reason(explained_by)
        link = link or explained_by[0].method.address
    if row is not None and row.status is record.status and not worse:
        reason, link = reason or row.reason, link or row.link  # the same failure, less of it
    if (failing or worse) and not reason:
        missing = "Not written: a row for the worse needs --expected-reason."
        return found.model_copy(update={"sentence": f"{missing} {found.sentence}"})
    if failing and not link:
        missing = "Not written: a known failure needs --expected-link, an address that explains it."
        return found.model_copy(update={"sentence": f"{missing} {found.sentence}"})
    loosened = ""
    if worse and not failing and row is not None:
        moved = [str(c) for c in _changes(record, row) if c.direction > 0 and c.name != "status"]
        loosened = "; ".join(filter(None, [row.loosened, *moved]))
    explained = failing or bool(loosened)
    new = ExpectedRow(
        status=record.status,
        **_measured(record),  # type: ignore[arg-type]
        tolerance=row.tolerance if row is not None and explained else None,
        loosened=loosened,
        as_cann=bool(explained_by),
        reason=reason if explained else "",
        link=link if explained else "",
    )
    before = f"{row.status.value}, {_shown(row)}" if row is not None else "no row"
    sentence = f"{record.case_id}: expected row rewritten, {before} -> {_numbers(record)}."
    return Expectation(outcome=Outcome.UPDATED, sentence=sentence, row=new)


def _measured(record: CaseRecord) -> dict[str, float | str | None]:
    gate = record.gate
    return {
        "budget_ratio": _short(record.budget_ratio),
        "error_rate_percent": _short(gate.error_rate_percent) if gate else None,
        "top1": f"{gate.top1_matches}/{gate.images}" if gate else None,
        "speed_ratio": _short(record.speed_ratio),
    }


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")


def _numbers(record: CaseRecord) -> str:
    """Status and numbers of a record in a few words."""
    parts = [record.status.value]
    if record.budget_ratio is not None:
        parts.append(f"budget ratio {record.budget_ratio:.3g}")
    if record.gate is not None:
        parts.append(f"Top-1 {record.gate.top1_matches}/{record.gate.images}")
    return ", ".join(parts)


def _shown(row: ExpectedRow) -> str:
    return "no budget ratio" if row.budget_ratio is None else f"budget ratio {row.budget_ratio:.3g}"


def _why(record: CaseRecord) -> str:
    """The verdict's own sentence and the place, where there is one."""
    text = f" {record.reason}" if record.reason and not record.status.is_pass else ""
    place = culprit(record)
    return f"{text} Culprit: {place}." if place else text


def _unjudged(record: CaseRecord, row: ExpectedRow | None) -> str:
    expected = "there is no expected row" if row is None else f"expected is {row.status.value}"
    return (
        f"{record.case_id} was not judged ({record.status.value}), {expected}. {record.reason} "
        "Run it again; trouble of the infrastructure is never written as expected."
    )


def _accept(record: CaseRecord, command: str, *, worse: bool) -> str:
    parts = [command, f"-k 'test_accuracy[{record.case_id}]'", "--update-expected"]
    known = bool(as_cann(record))  # gives reason and address
    if worse and not known:
        parts.append("--expected-reason 'WHY'")
    if not record.status.is_pass and not known:
        parts.append("--expected-link 'ADDRESS'")
    return f"Accept it with: {' '.join(parts)}"
