"""A comparison of two runs as tables and one line."""

from __future__ import annotations

import collections
from collections.abc import Callable

from harness.judgement.intervals import Interval
from harness.records import consistency, fingerprint_changes
from harness.records.lines import CaseRecord
from harness.report.tables import cells, fingerprint
from harness.report.tables.cells import Table
from harness.upgrade.compare import CaseChange, Change, RunComparison


def tables(comparison: RunComparison) -> list[Table]:
    """What differs between the environments, then cases, then speed where it was timed."""
    arithmetic = fingerprint.differences(comparison.arithmetic, emulated=_emulated(comparison))
    found = [environment(comparison), arithmetic, cases(comparison)]
    if any(case.speed is not None for case in comparison.cases):
        found.append(speed(comparison))
    return [table for table in found if table.rows]


def environment(comparison: RunComparison) -> Table:
    """Versions, settings and devices that differ."""
    return Table("Environment: what differs", ("item", "old", "new"), comparison.environment)


def cases(comparison: RunComparison) -> Table:
    """One row a case: status and errors of both runs, and whether that is more than noise."""
    return Table(
        cells.mark("Cases, old run -> new run", _emulated(comparison)),
        (
            *("case", "change", "status", "budget ratio", "images' error, new / old"),
            *("error rate", "Top-1", "judged by"),
        ),
        tuple(
            (
                cells.mark(case.case_id, case.emulated),
                case.change.value,
                _pair(case, lambda side: side.status.value),
                _pair(case, lambda side: cells.ratio(side.budget_ratio)),
                _interval(case.error),
                _pair(case, lambda side: cells.gate_error_rate(side.gate)),
                _pair(case, lambda side: cells.gate_top1(side.gate)),
                case.why,
            )
            for case in comparison.cases
        ),
    )


def speed(comparison: RunComparison) -> Table:
    """Throughput of both sides, new over old, with 95 % intervals; the CPU is the control."""
    title = "Throughput, new / old, with 95 % intervals (Welch, of the logarithms)"
    if _emulated(comparison):
        title += "; the emulator's time on this host says nothing about an NPU's"
    return Table(
        cells.mark(title, _emulated(comparison)),
        ("case", "device", "is it a change?", "CPU, as a control", "timed forwards"),
        tuple(
            (
                cells.mark(case.case_id, case.emulated),
                _interval(case.speed),
                _word(case.speed),
                _interval(case.cpu_speed),
                _pair(case, _forwards),
            )
            for case in comparison.cases
            if case.speed is not None
        ),
    )


def line(comparison: RunComparison) -> str:
    """The comparison in one line."""
    counts = collections.Counter(case.change for case in comparison.cases)
    parts = [f"{counts[change]} {change.value}" for change in Change if counts[change]]
    text = f"Compared {len(comparison.cases)} cases: {', '.join(parts)}"
    if comparison.hits:
        text += f"; {len(comparison.hits)} conditions met"
    if traits := sum(
        one.change is not fingerprint_changes.Change.BITS for one in comparison.arithmetic
    ):
        text += f"; {traits} traits of the arithmetic differ"
    return text + cells.caveat(_emulated(comparison))


def other_rules(comparison: RunComparison) -> str:
    """A line on verdicts of other rules than this harness', of both runs; "" for none."""
    sides = [side for case in comparison.cases for side in (case.old, case.new)]
    return consistency.other_rules([side for side in sides if side is not None])


def _pair(case: CaseChange, show: Callable[[CaseRecord], str]) -> str:
    shown = ["none" if side is None else show(side) for side in (case.old, case.new)]
    return f"{shown[0]} -> {shown[1]}" if shown[0] != shown[1] else shown[0]


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return cells.NOT_MEASURED
    return f"{interval.value:.3g}x ({interval.low:.3g} .. {interval.high:.3g})"


def _word(interval: Interval | None) -> str:
    if interval is None:
        return cells.NOT_MEASURED
    if interval.holds_one:
        return "inside noise"
    return "faster" if interval.value > 1 else "slower"


def _forwards(case: CaseRecord) -> str:
    return str(len(case.candidate.timing.forward_seconds)) if case.candidate else "none"


def _emulated(comparison: RunComparison) -> bool:
    return any(case.emulated for case in comparison.cases)
