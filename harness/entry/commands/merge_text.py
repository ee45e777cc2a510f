"""What there is to say of records that were joined."""

from __future__ import annotations

from harness.report.tables.cells import Table
from harness.runs.merge import Merged


def lines(merged: Merged) -> list[str]:
    """Conflicts first, then what was settled without harm."""
    return [*merged.conflicts, *merged.notes]


def differences(merged: Merged) -> Table | None:
    """What differs between the parts; None when nothing does that should not."""
    if not merged.differences:
        return None
    return Table(
        "The parts are not of one stack (--allow-differences accepts it)",
        ("what", "first part", "other part", "its run"),
        merged.differences,
    )
