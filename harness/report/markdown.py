"""Markdown, for the job summary of a CI system: short, with the tables that say what happened."""

from __future__ import annotations

from collections.abc import Sequence

from harness.compare import Comparison
from harness.records import CaseRecord
from harness.report import compare, expected, tables
from harness.report.tables import Table


def render_run(cases: Sequence[CaseRecord], missing: Sequence[str] = ()) -> str:
    """The run in one line, the overview, what differs from the expected results, the failures."""
    blocks = ["## NPU accuracy", tables.top_line(cases, missing)]
    if line := expected.line(cases):
        blocks.append(line)
    if missing:
        blocks.append("Cases without a record: " + ", ".join(f"`{name}`" for name in missing))
    blocks += [f"- {_escaped(text)}" for text in expected.sentences(cases)]
    if cases:
        blocks.append(render_table(tables.overview(cases)))
    blocks += [render_table(table) for table in expected.all_tables(cases)]
    bad = [case for case in cases if not expected.is_fine(case)]
    for case in bad:
        blocks.append(f"### {tables.label(case, case.case_id)}")
        blocks.append(_escaped(tables.conclusion(case)))
        blocks += [f"- {_escaped(finding)}" for finding in case.findings[1:]]
        shown = [*tables.documented(case), tables.budget(case), tables.operators(case)]
        blocks += [render_table(table) for table in shown if table is not None]
    return "\n\n".join(blocks)


def render_comparison(comparison: Comparison) -> str:
    """Everything that a comparison shows."""
    blocks = ["## Comparison of two runs", compare.line(comparison)]
    blocks += [f"- {_escaped(hit)}" for hit in comparison.hits]
    blocks += [render_table(table) for table in compare.tables(comparison)]
    return "\n\n".join(blocks)


def render_table(table: Table) -> str:
    """A table with its title as a heading."""
    lines = [table.header, tuple("---" for _ in table.header), *table.rows]
    rows = ("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)
    return "\n".join([f"#### {table.title}", "", *rows])


def _cell(text: str) -> str:
    return _escaped(text).replace("|", "\\|")


def _escaped(text: str) -> str:
    """Nothing from outside becomes markup; line breaks would end a cell."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return " ".join(text.replace("`", "\\`").splitlines())
