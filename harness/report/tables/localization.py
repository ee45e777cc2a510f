"""The localisation as a table: the operators that come nearest to being, or are, the culprit."""

from __future__ import annotations

from pathlib import Path

from harness.judgement import batchings
from harness.judgement.localization import Localization
from harness.judgement.operator_rows import OperatorRow
from harness.records.lines import CaseRecord
from harness.report.tables import cells
from harness.report.tables.cells import Table, label
from harness.system.messages import say

_SHOWN = 5


def _way(found: Localization) -> str:
    return f" {batchings.WAYS[found.way]}" if found.way in batchings.WAYS else ""


def worst(case: CaseRecord) -> Table | None:
    """The five worst operators; own errors name culprits, inherited ones show what arrives."""
    found = case.localization
    if found is None or not found.rows:
        return None
    culprits = {row.index for row in found.culprits}
    title = (
        f"Where it goes wrong: images {found.start} to {found.stop - 1}{_way(found)}, judged for "
        f"{found.arithmetic}, errors as rms; the worst {min(_SHOWN, len(found.worst))} of "
        f"{len(found.worst)} operators"
    )
    header = (
        "call",
        "operator",
        "module",
        "shapes",
        "arithmetic",
        "own error",
        "own budget",
        "own ratio",
        "worst slice",
        "inherited error",
        "inherited budget",
        "culprit",
    )
    rows = tuple(
        (
            str(row.index),
            row.operator.removeprefix("aten::").removesuffix(".default"),
            row.module,
            f"{', '.join(row.shapes)} -> {', '.join(row.outputs)}",
            f"{row.arithmetic}, {row.memory_format}",
            _own(row),
            f"{row.budget_rmse:.3g}",
            f"{row.ratio:.3g}",
            f"{row.worst_slice_ratio:.3g} ({row.worst_slice or 'all of it'})",
            f"{row.inherited_rmse:.3g}",
            f"{row.inherited_budget_rmse:.3g}",
            cells.culprit(row) if row.index in culprits else "no",
        )
        for row in found.worst[:_SHOWN]
    )
    return Table(label(case, title), header, rows)


def lines(case: CaseRecord, folder: Path | None = None) -> list[str]:
    """What was found, in sentences.

    `folder`: of the results, for whole paths where they can be copied to a command line.
    """
    found = case.localization
    if found is None:
        return []
    text: list[str] = [label(case, found.conclusion())]
    if (first := found.first_beyond) is not None:
        text.append(
            say(
                "culprit.first_beyond",
                "The device's own activations leave their budget first after {operator} in "
                "{module} (operator {index}): {ratio} times.",
                operator=first.operator,
                module=first.module,
                index=first.index,
                ratio=f"{first.inherited_ratio:.3g}",
            )
        )
    if found.restarts:
        text.append(
            say(
                "culprit.restarts",
                "{count} results were taken from the CPU, since the device's did not fit: "
                "inherited errors start anew there.",
                count=found.restarts,
            )
        )
    text += [
        say("culprit.reproducer", "Reproducer: {path}", path=folder / path if folder else path)
        for path in found.reproducers
    ]
    if found.reproducers:
        text.append(
            say(
                "culprit.next",
                "Next: run the first of them on the card with the newest CANN; if the difference "
                "shows there too, file it: the folder of a port has the report filled in.",
            )
        )
    text += [found.note] if found.note else []
    return text


def _own(row: OperatorRow) -> str:
    if row.unstable:
        return f"{row.own_rmse:.3g}, {row.unstable} elements differ when repeated"
    if row.nonfinite:
        return f"{row.nonfinite} NaN or infinite"
    return f"{row.own_rmse:.3g}"
