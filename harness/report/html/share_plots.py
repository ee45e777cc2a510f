"""A bar for each block: its share of the error."""

from __future__ import annotations

from matplotlib.figure import Figure

from harness.judgement.shares import ErrorShares
from harness.records.lines import CaseRecord
from harness.report.html import figures
from harness.report.html.figures import BLUE, Drawing
from harness.report.tables.cells import label

_READING = (
    "Each bar is what the roundings inside one block contribute to the mean square error of the "
    "output, as predicted; the longest are the first to keep in float32."
)


def blocks(case: CaseRecord, *, copy: str = "") -> Drawing | None:
    """Shares of a case's blocks, in order of execution; `copy`: see `figures.render`."""
    found = case.shares
    if found is None or not found.blocks:
        return None
    title = label(case, f"Shares of the blocks of {case.case_id} of the error of {found.output}")
    return Drawing(figures.render(lambda: _bars(found), title, copy=copy), _READING)


def _bars(found: ErrorShares) -> Figure:
    parts = found.blocks
    figure = figures.canvas(0.9 + 0.19 * len(parts))
    axes = figure.add_subplot()
    axes.barh(range(len(parts)), [100 * part.share for part in parts], color=BLUE, height=0.7)
    axes.set_yticks(range(len(parts)), [figures.name(part.name) for part in parts])
    axes.set_ylim(len(parts) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"share of the mean square error of {found.output}, by block [%]")
    return figure
