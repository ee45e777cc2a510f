"""Plain-text rendering: a table is also valid Markdown, unless it is fitted to a terminal."""

from __future__ import annotations

import functools
import textwrap
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
from harness.upgrade.compare import RunComparison

NARROWEST = 80  # columns of a terminal that tables fit


def render_table(table: Table, columns: int | None = None) -> str:
    """Lay a table out in aligned columns.

    `columns`: of the terminal.  A table that is wider has its cells wrapped; where that does not
    do, each row is a paragraph.
    """
    rows = [[shown.line(cell) for cell in row] for row in (table.header, *table.rows)]
    lines = _grid(rows)
    if columns is None or cell_len(lines[0]) <= columns:
        return "\n".join([shown.line(table.title), *lines])
    if (widths := _narrowed(rows, columns)) is not None:
        lines = _wrapped(rows, widths)
    elif cell_len((across := _grid(list(zip(*rows, strict=True))))[0]) <= columns:
        lines = across
    else:
        lines = _paragraphs(rows, columns)
    return "\n".join([*textwrap.wrap(shown.line(table.title), columns), *lines])


def render_run(
    cases: Sequence[CaseRecord],
    missing: Sequence[str] = (),
    *,
    full: bool = False,
    folder: Path | None = None,
    columns: int | None = None,
) -> str:
    """The tables of each case that is not as it should be, a line for each, and the top line.

    `full`: the tables of all cases; those of a single case are always shown, and of one that was
    timed or had faults planted, which is done where it is asked for.
    `folder`: of the results.  `columns`: of the terminal, which tables then fit.
    """
    fit = functools.partial(render_table, columns=columns)
    blocks = [
        render_case(case, folder, columns)
        for case in cases
        if full or len(cases) == 1 or not expected.is_fine(case) or _asked_more(case)
    ]
    if cases:
        blocks.append("\n".join([_LINES, *map(_case_line, cases)]))
    if devices := dict.fromkeys(case.candidate.device.shown for case in cases if case.candidate):
        blocks.append(shown.line(f"Device: {cells.first(list(devices))}"))
    if missing:
        blocks.append(shown.line("Cases without a record: " + cells.first(missing)))
    blocks += map(fit, expected.all_tables(cases))
    blocks += map(shown.line, expected.sentences(cases))
    said = (expected.line(cases), shown.line(consistency.other_rules(cases)))
    blocks += filter(None, said)
    blocks.append(per_case.top_line(cases, missing))
    return "\n\n".join(blocks)


_LINES = "Cases: status, id, greatest budget ratio / allowed, error rate, Top-1"


def _asked_more(case: CaseRecord) -> bool:
    return case.throughput is not None or case.sensitivity is not None


def _case_line(case: CaseRecord) -> str:
    """A case in a line."""
    parts = [case.status.value, cells.label(case, shown.line(case.case_id))]
    worst = max(case.budgets, key=lambda row: row.worst_ratio / row.limit, default=None)
    if worst is not None:
        parts.append(f"{worst.worst_ratio:.3g}/{worst.limit:g}")
    if case.gate is not None:
        parts += [cells.gate_error_rate(case.gate), cells.gate_top1(case.gate)]
    return "  ".join(parts)


def render_case(case: CaseRecord, folder: Path | None = None, columns: int | None = None) -> str:
    """One case: the protocol's tables, then its conclusion; `columns` as for `render_run`."""
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
    fit = functools.partial(render_table, columns=columns)
    return "\n".join([shown.line(title), *map(fit, found), *said])


def render_comparison(comparison: RunComparison, columns: int | None = None) -> str:
    """Everything that a comparison of two runs shows; `columns` as for `render_run`."""
    blocks = [render_table(table, columns) for table in two_runs.tables(comparison)]
    said = [*comparison.hits, two_runs.other_rules(comparison), two_runs.line(comparison)]
    return "\n\n".join([*blocks, *map(shown.line, filter(None, said))])


def _grid(rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned columns; the first row is the header."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    # Wide East Asian characters take two columns of a terminal.
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = [_line(row, widths) for row in rows]
    lines.insert(1, _rule(widths))
    return lines


def _narrowed(rows: Sequence[Sequence[str]], columns: int) -> list[int] | None:
    """Widths of columns whose cells are wrapped between words; None where words are too long."""
    columns_of = list(zip(*rows, strict=True))
    widths = [max(map(cell_len, column)) for column in columns_of]
    least = [max(cell_len(word) for cell in column for word in [*cell.split(), ""])
             for column in columns_of]  # fmt: skip
    room = columns - 3 * len(widths) - 1
    if sum(least) > room:
        return None
    while sum(widths) > room:  # the widest gives way, down to its longest word
        widest = max(
            (n for n in range(len(widths)) if widths[n] > least[n]), key=lambda n: widths[n]
        )
        widths[widest] -= 1
    return widths


def _wrapped(rows: Sequence[Sequence[str]], widths: Sequence[int]) -> list[str]:
    lines = []
    for row in rows:
        parts = [
            textwrap.wrap(cell, width, break_long_words=False) or [""]
            for cell, width in zip(row, widths, strict=True)
        ]
        height = max(map(len, parts))
        filled = [part + [""] * (height - len(part)) for part in parts]
        lines += [_line(line, widths) for line in zip(*filled, strict=True)]
        if row is rows[0]:
            lines.append(_rule(widths))
    return lines


def _paragraphs(rows: Sequence[Sequence[str]], columns: int) -> list[str]:
    header, *items = rows
    lines = []
    for item in items:
        said = "; ".join(f"{name} {cell}" for name, cell in zip(header, item, strict=True))
        lines += textwrap.wrap(
            said, columns, initial_indent="- ", subsequent_indent="  ", break_long_words=False
        )
    return lines


def _rule(widths: Sequence[int]) -> str:
    return "|" + "|".join("-" * (width + 2) for width in widths) + "|"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell + " " * (n - cell_len(cell)) for cell, n in zip(cells, widths, strict=True))
    return "| " + " | ".join(padded) + " |"
