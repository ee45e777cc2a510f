"""Cases beside their expected rows: what changed, what is known, what was loosened."""

from __future__ import annotations

import collections
from collections.abc import Sequence

from harness.records.expectation import Outcome
from harness.records.lines import CaseRecord
from harness.report.tables import cells
from harness.report.tables.cells import Table, label


def is_fine(case: CaseRecord) -> bool:
    """Whether a case is what it should be: as its row says, or a pass where it has none."""
    if case.expected is None:
        return case.status.is_pass
    return case.expected.outcome in (Outcome.SAME, Outcome.KNOWN)


def line(cases: Sequence[CaseRecord]) -> str:
    """The comparison in one line, with loosened rows counted; "" when nothing was compared."""
    found = [case.expected for case in cases if case.expected is not None]
    if not found:
        return ""
    counts = collections.Counter(item.outcome for item in found)
    parts = [f"{counts[outcome]} {outcome.value}" for outcome in Outcome if counts[outcome]]
    loosened = sum(item.row is not None and item.row.is_loosened for item in found)
    text = f"Expected results: {', '.join(parts)}; {loosened} of these rows loosened"
    return text + cells.caveat(any(case.emulated for case in cases))


def all_tables(cases: Sequence[CaseRecord]) -> list[Table]:
    """What differs from its row, and the rows that have a reason; empty when there is nothing."""
    return [table for table in (changes(cases), explained(cases)) if table is not None]


def changes(cases: Sequence[CaseRecord]) -> Table | None:
    """Every case that is not what its row says, with the numbers before and after."""
    rows = []
    for case in cases:
        found = case.expected
        if found is None or found.outcome in (Outcome.SAME, Outcome.KNOWN):
            continue
        before = found.row if found.outcome is not Outcome.UPDATED else None
        rows.append(
            (
                label(case, case.case_id),
                found.outcome.value,
                _change(before.status.value if before else None, case.status.value),
                _change(
                    cells.ratio(before.budget_ratio if before else None),
                    cells.ratio(case.budget_ratio),
                ),
                _change(
                    cells.error_rate(before.error_rate_percent if before else None),
                    cells.gate_error_rate(case.gate),
                ),
                _change(before.top1 if before else None, cells.gate_top1(case.gate)),
            )
        )
    header = ("case", "outcome", "status", "budget ratio", "error rate", "Top-1")
    return Table("Changes against the expected results", header, tuple(rows)) if rows else None


def sentences(cases: Sequence[CaseRecord]) -> list[str]:
    """For every case that is not what its row says: what changed and how to accept it."""
    return [
        label(case, case.expected.sentence)
        for case in cases
        if case.expected is not None and not is_fine(case)
    ]


def explained(cases: Sequence[CaseRecord]) -> Table | None:
    """Known failures and loosened rows, each with its reason and link."""
    rows = []
    for case in cases:
        row = case.expected.row if case.expected is not None else None
        if row is None or not (row.is_loosened or not row.status.is_pass):
            continue
        what = [] if row.status.is_pass else [f"known failure {row.status.value}"]
        if row.tolerance is not None:
            what.append(f"tolerance {row.tolerance:g} times")
        if row.loosened:
            what.append(f"loosened: {row.loosened}")
        rows.append((label(case, case.case_id), "; ".join(what), row.reason, row.link or "none"))
    header = ("case", "what the row allows", "reason", "link")
    return Table("Known failures and loosened rows", header, tuple(rows)) if rows else None


def _change(before: str | None, after: str) -> str:
    return after if before in (None, after) else f"{before} -> {after}"
