"""The trend of every case over versions, from the history."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.tables import cells
from harness.report.tables.cells import Table
from harness.upgrade.history import HistoryEntry, version_sets

_COLUMNS = 5  # the newest sets of versions


def trend(found: Sequence[HistoryEntry]) -> Table | None:
    """One row a case, one column a set of versions, the newest last; None for a single run.

    A cell holds the newest run with those versions and how many there were.
    """
    if len({entry.run_id for entry in found}) < 2:
        return None
    sets = version_sets(found)[-_COLUMNS:]
    names = _names(sets)
    rows = []
    for case_id in dict.fromkeys(entry.case_id for entry in found):
        own = [entry for entry in found if entry.case_id == case_id]
        columns = [
            _cell([entry for entry in own if entry.versions == versions]) for versions in sets
        ]
        emulated = any(entry.emulated for entry in own)
        rows.append((cells.mark(case_id, emulated), *columns))
    title = "Trend over versions: status, budget ratio, error rate, speed over the CPU's"
    return Table(title, ("case", *names), tuple(rows))


def _names(sets: Sequence[dict[str, str]]) -> list[str]:
    """Versions by name; what is the same in all sets is left out where there are several."""
    keys = list(dict.fromkeys(key for versions in sets for key in versions))
    differing = [key for key in keys if len({versions.get(key) for versions in sets}) > 1] or keys
    return [
        ", ".join(f"{key} {versions.get(key, 'unknown')}" for key in differing)
        or "versions unknown"
        for versions in sets
    ]


def _cell(found: Sequence[HistoryEntry]) -> str:
    if not found:
        return "not run"
    entry = found[-1]
    parts = [entry.status.value]
    if entry.budget_ratio is not None:
        parts.append(cells.ratio(entry.budget_ratio))
    if entry.error_rate_percent is not None:
        parts.append(cells.error_rate(entry.error_rate_percent))
    if entry.speed_ratio is not None:
        parts.append(f"{entry.speed_ratio:.1f} x")
    text = ", ".join(parts)
    return text if len(found) == 1 else f"{text} ({len(found)} runs)"
