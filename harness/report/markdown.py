"""Markdown, for the job summary of a CI system: short, with the tables that say what happened."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.records import consistency
from harness.records.lines import CaseRecord
from harness.report.tables import cells, expected, per_case, throughput, two_runs
from harness.report.tables.cells import Table
from harness.system import shown
from harness.upgrade.compare import RunComparison

# A job summary holds 1 MiB; the overview names every case anyway.
_FULL = 20
_LONGEST = 1000


def render_run(cases: Sequence[CaseRecord], missing: Sequence[str] = ()) -> str:
    """The run in one line, the overview, what differs from the expected results, the failures."""
    blocks = ["## NPU accuracy", per_case.top_line(cases, missing)]
    if line := expected.line(cases):
        blocks.append(line)
    if line := consistency.other_rules(cases):
        blocks.append(escaped(_cut(line)))
    if missing:
        # Nothing but a backtick ends a code span.
        names = [f"`{shown.line(name).replace('`', chr(39))}`" for name in missing]
        blocks.append("Cases without a record: " + cells.first(names))
    blocks += [f"- {escaped(_cut(text))}" for text in expected.sentences(cases)[:_FULL]]
    if cases:
        blocks.append(render_table(per_case.overview(cases)))
    blocks += [render_table(table) for table in expected.all_tables(cases)]
    bad = [case for case in cases if not expected.is_fine(case)]
    for case in bad[:_FULL]:
        blocks.append(f"### {escaped(cells.label(case, case.case_id))}")
        blocks.append(escaped(_cut(per_case.conclusion(case))))
        blocks += [f"- {escaped(_cut(str(finding)))}" for finding in case.findings[1:]]
        found = [*per_case.documented(case), per_case.budget(case), per_case.operators(case)]
        blocks += [render_table(table) for table in found if table is not None]
    if len(bad) > _FULL:
        blocks.append(f"{len(bad) - _FULL} more cases that did not pass are in the overview only.")
    for case in [case for case in cases if case.throughput is not None][:_FULL]:
        blocks.append(f"### {escaped(cells.label(case, f'Throughput of {case.case_id}'))}")
        blocks += [f"- {escaped(_cut(line))}" for line in throughput.lines(case)]
        measured = [*throughput.tables(case), throughput.memory(case)]
        blocks += [render_table(table) for table in measured if table is not None]
    return "\n\n".join(blocks)


def render_comparison(comparison: RunComparison) -> str:
    """Everything that a comparison shows."""
    blocks = ["## Comparison of two runs", two_runs.line(comparison)]
    if line := two_runs.other_rules(comparison):
        blocks.append(escaped(_cut(line)))
    blocks += [f"- {escaped(hit)}" for hit in comparison.hits]
    blocks += [render_table(table) for table in two_runs.tables(comparison)]
    return "\n\n".join(blocks)


def render_table(table: Table) -> str:
    """A table with its title as a heading."""
    return "\n".join([f"#### {escaped(table.title)}", "", *rows(table)])


def rows(table: Table) -> list[str]:
    """The lines of a table without its title."""
    rule = tuple(Verbatim("---") for _ in table.header)
    lines = (table.header, rule, *table.rows)
    return ["| " + " | ".join(escaped(cell) for cell in line) + " |" for line in lines]


def _cut(text: str) -> str:
    more = len(text) - _LONGEST
    return text if more <= 0 else f"{text[:_LONGEST]} ... ({more} more characters in the records)"


def escaped(text: str) -> Verbatim:
    """Text that shows as it is, in a cell or a paragraph: nothing from outside becomes markup.

    Line breaks, which would end a cell, become spaces, control characters and those that change
    the direction of writing U+FFFD.  Text that is `Verbatim` already is left alone.
    """
    if isinstance(text, Verbatim):
        return text
    text = " ".join(shown.line(text).split())
    text = _SPECIAL.sub(r"\\\g<0>", text)
    # What would start a heading, a list or a rule.
    text = re.sub(r"^(?=[#+=-](?:[#+=\s-]|$))|(?<=^\d)(?=[.)](?:\s|$))", r"\\", text)
    return Verbatim(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def code(text: str) -> Verbatim:
    """Text as code within a line, also where it holds backticks."""
    text = " ".join(shown.line(text).split())
    fence = "`" * (1 + max(map(len, re.findall(r"`+", text)), default=0))
    blank = " " if text.startswith("`") or text.endswith("`") else ""
    return Verbatim(f"{fence}{blank}{text}{blank}{fence}")


class Verbatim(str):
    """Markdown that is meant as such."""


# An underscore inside a word is no emphasis, and model names are full of them.
_SPECIAL = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")
