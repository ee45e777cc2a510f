"""Plain-text rendering, also valid as a Markdown table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.cells import cell_len

from harness.records import consistency
from harness.records.lines import CaseRecord
from harness.report.tables import (
    cells,
    detection,
    expected,
    localization,
    per_case,
    shares,
    throughput,
    two_runs,
)
from harness.report.tables.cells import Table
from harness.system import shown
from harness.system.status import Status
from harness.upgrade.compare import RunComparison

# With more cases than this, only those that did not pass are shown in full.
_FULL = 12


def render_table(table: Table) -> str:
    """Lay a table out in aligned columns."""
    rows = [
        [shown.line(cell).replace("|", "\\|") for cell in row]
        for row in (table.header, *table.rows)
    ]
    # Wide East Asian characters take two columns of a terminal.
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = [_line(row, widths) for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join([shown.line(table.title), *lines])


def render_run(
    cases: Sequence[CaseRecord],
    missing: Sequence[str] = (),
    *,
    full: bool = False,
    folder: Path | None = None,
) -> str:
    """The documented tables of each case, the overview and the top line.

    `full`: also of the cases that passed, where there are many.  `folder`: of the results.
    """
    blocks = []
    for case in cases:
        if not full and len(cases) > _FULL and case.status is Status.PASS:
            continue
        blocks.append(render_case(case, folder))
    if cases:
        blocks.append(render_table(per_case.overview(cases)))
    if missing:
        blocks.append(shown.line("Cases without a record: " + cells.first(missing)))
    blocks += [render_table(table) for table in expected.all_tables(cases)]
    blocks += map(shown.line, expected.sentences(cases))
    said = (expected.line(cases), shown.line(consistency.other_rules(cases)))
    blocks += filter(None, said)
    blocks.append(per_case.top_line(cases, missing))
    return "\n\n".join(blocks)


def render_case(case: CaseRecord, folder: Path | None = None) -> str:
    """One case: its documented tables, then its conclusion."""
    title = cells.label(case, f"== {case.case_id}")
    found = per_case.documented(case)
    more = (
        per_case.budget(case),
        shares.greatest(case),
        per_case.operators(case),
        per_case.standard(case),
        localization.worst(case),
        per_case.discrimination(case),
        throughput.memory(case) if case.throughput is not None else None,
    )
    found += [table for table in more if table is not None]
    found += throughput.tables(case)
    said = [f"Conclusion: {per_case.conclusion(case)}"]
    said += [f"  - {shown.line(str(finding))}" for finding in case.findings[1:]]
    said += [f"  note: {shown.line(note)}" for note in case.notes]
    said += map(shown.line, localization.lines(case, folder))
    said += map(shown.line, [*shares.lines(case), *throughput.lines(case)])
    if line := detection.line(case):
        said.append(shown.line(line))
    return "\n".join([shown.line(title), *map(render_table, found), *said])


def render_comparison(comparison: RunComparison) -> str:
    """Everything that a comparison of two runs shows."""
    blocks = [render_table(table) for table in two_runs.tables(comparison)]
    said = [*comparison.hits, two_runs.other_rules(comparison), two_runs.line(comparison)]
    return "\n\n".join([*blocks, *map(shown.line, filter(None, said))])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell + " " * (n - cell_len(cell)) for cell, n in zip(cells, widths, strict=True))
    return "| " + " | ".join(padded) + " |"
