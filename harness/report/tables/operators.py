"""Qualified operator calls as tables: by operator and format, failing, changed, by model."""

from __future__ import annotations

from collections.abc import Sequence

from harness.qualification import certificate
from harness.qualification.grouping import Group, counted
from harness.qualification.outcomes import Outcome
from harness.report.tables import cells
from harness.report.tables.cells import Table, tabulated
from harness.system.status import Status
from harness.upgrade.operators import Calls

_NONE = "none"
_FAILS = "fail"


def matrix(found: Sequence[Calls]) -> Table:
    """A row an operator, a column a format: how many of its calls pass, fail and changed."""
    columns = [_name(one) for one in found]
    rows: dict[str, list[str]] = {}
    for number, one in enumerate(found):
        by_operator: dict[str, list[Outcome]] = {}
        for item in one.results.outcomes.values():
            by_operator.setdefault(_operator(item), []).append(item)
        for operator, items in by_operator.items():
            row = rows.setdefault(operator, [_NONE] * len(found))
            row[number] = _cell(items, one)
    return Table(
        cells.mark("Operators: calls that pass, and the worst ratio", _emulated(found)),
        ("operator", *columns),
        tuple((operator, *row) for operator, row in sorted(rows.items())),
    )


def _cell(items: Sequence[Outcome], one: Calls) -> str:
    passed = sum(item.status is Status.PASS for item in items)
    failed = sum(item.failed for item in items)
    changed = sum(item.id in one.changed for item in items)
    worst = max((item.worst_ratio for item in items if item.worst_ratio is not None), default=None)
    parts = [f"{passed} of {len(items)} pass"]
    parts += [f"{failed} {_FAILS}"] if failed else []
    parts += [f"{changed} changed"] if changed else []
    parts.append(f"worst {cells.ratio(worst)}")
    return ", ".join(parts)


def groups(found: Sequence[Calls], *, known: bool) -> Table:
    """A row a cause: calls that fail, or, `known`, those that rows expect to."""
    title = "Calls that fail as expected" if known else "Calls that fail, by cause"
    rows = [(one, group) for one in found for group in (one.known if known else one.failing)]
    return Table(
        cells.mark(title, _emulated(found)),
        ("format", "status", "cause", "worst call", "models", "repeat the worst"),
        tuple(
            (
                _name(one),
                group.status,
                group.cause,
                f"{group.worst}: {group.reason}",
                _models(group),
                group.repeated(one.results.run.options),
            )
            for one, group in rows
        ),
    )


def changes(found: Sequence[Calls]) -> Table:
    """A row a kernel family whose bits changed."""
    rows = [(one, change) for one in found for change in one.certificate.changes or ()]
    return Table(
        cells.mark("Calls whose bits changed, by kernel family", _emulated(found)),
        ("format", "what changed", "now", "models"),
        tuple(
            (
                _name(one),
                change.cause,
                ", ".join(f"{n} {status}" for status, n in sorted(change.statuses.items())),
                cells.first(change.models),
            )
            for one, change in rows
        ),
    )


def unjudged(found: Sequence[Calls]) -> Table:
    """A row a reason why calls could not be judged: these are not qualified."""
    rows = [(one, group) for one in found for group in one.certificate.unjudged]
    return tabulated(
        cells.mark("Not judged", _emulated(found)),
        rows,
        ("format", lambda row: _name(row[0])),
        ("calls", lambda row: row[1].cause),
        ("why", lambda row: row[1].reason),
        ("models", lambda row: counted(len(row[1].models), "model")),
    )


def models(one: Calls) -> Table:
    """A row a model: its certificate."""
    return tabulated(
        cells.mark(f"Certificates, {_name(one)}", one.results.run.emulated),
        one.certificate.models,
        ("model", lambda model: model.name),
        ("qualified", lambda model: "yes" if model.holds else "no"),
        ("certificate", lambda model: certificate.sentence(
            model, one.results.run, one.certificate.since
        )),
    )  # fmt: skip


def _models(group: Group) -> str:
    return f"{counted(len(group.models), 'model')}: {cells.first(group.models)}"


def _operator(item: Outcome) -> str:
    return item.signature.partition('"')[2].partition(".")[0].removeprefix("aten::").rstrip("_")


def _name(one: Calls) -> str:
    return f"{one.results.run.dtype} ({one.results.run.numerics})"


def _emulated(found: Sequence[Calls]) -> bool:
    return any(one.results.run.emulated for one in found)
