"""What the first card said, question by question."""

from __future__ import annotations

from collections.abc import Sequence

from harness.records.first_card import Card
from harness.records.lines import CaseRecord
from harness.report.tables import cells
from harness.report.tables.cells import Table


def lines(card: Card, unpublished: Sequence[str]) -> list[str]:
    """A line a question: what was expected, by which source, and what was seen."""
    said = [
        cells.mark(
            f"{probe.name}: seen: {probe.seen or f'nothing ({probe.problem})'}. "
            f"Expected: {probe.expected} ({probe.source}).",
            card.emulated,
        )
        for probe in card.probes
    ]
    return [*said, *(f"published nowhere: {text}" for text in unpublished)]


def cases(found: Sequence[CaseRecord]) -> Table:
    """The models, format by format."""
    return cells.tabulated(
        cells.mark("Models", any(case.emulated for case in found)),
        found,
        ("case", lambda case: case.case_id),
        ("status", lambda case: case.status.value),
        ("budget ratio", lambda case: cells.ratio(case.budget_ratio)),
        ("declared", lambda case: case.arithmetic or cells.NOT_MEASURED),
        ("reason", lambda case: case.reason),
    )
