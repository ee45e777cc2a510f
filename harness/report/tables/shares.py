"""Who caused the error, and what stays in float32: tables and sentences of a case."""

from __future__ import annotations

from harness.judgement.shares import ErrorShares, Part
from harness.records.lines import CaseRecord, UsedPlan
from harness.report.tables.cells import EMULATED, Table, label

_NAMED = 4


def greatest(case: CaseRecord) -> Table | None:
    """The five greatest shares; of a failing case the culprit and the rest come first."""
    found = case.shares
    if found is None:
        return None
    rows: list[Part] = []
    if found.culprit is not None:
        rows.append(Part(f"CULPRIT {found.culprit.name}", found.culprit.share))
    parts = [*rows, *found.greatest]
    title = f"Who caused the error of {found.output}: the greatest shares in {found.arithmetic}"
    return Table(
        label(case, title),
        ("cause", "share of the mean square error"),
        tuple((part.name, _percent(part.share)) for part in parts),
    )


def blocks(case: CaseRecord) -> Table | None:
    """Shares of blocks, in order of execution."""
    found = case.shares
    if found is None or not found.blocks:
        return None
    return Table(
        label(case, f"Shares of the blocks, of the error of {found.output}"),
        ("block", "share"),
        tuple((part.name, _percent(part.share)) for part in found.blocks),
    )


def lines(case: CaseRecord) -> list[str]:
    """What was found, in sentences; and the plan."""
    said = [] if case.plan is None else [plan(case.plan)]
    found = case.shares
    if found is None:
        return said
    if found.culprit is not None:
        rest = 1.0 - found.culprit.share
        said.append(
            f"Of the device's mean square error {_percent(found.culprit.share)} is beyond what "
            f"{found.arithmetic} costs and is put down to {found.culprit.name}; "
            f"{_percent(rest)} is rounding."
        )
    if found.kinds:
        said.append(f"{_predicted(found)} By kind: {_listed(found.kinds)}.")
    return [label(case, text) for text in said]


def plan(found: UsedPlan) -> str:
    """The plan that a case ran with, and what it costs."""
    count = len(found.modules)
    named = ", ".join(found.modules[:_NAMED]) + " and others" * (count > _NAMED)
    text = (
        f"Plan {found.file} ({found.sha256[:12]}): {count} module{'s' * (count > 1)} in float32 "
        f"({named})"
    )
    if len(found.seconds) == 2:
        without, planned = found.seconds
        where = f", {EMULATED}: no measure of a device" * found.emulated
        text += f"; a pass took {planned:.3g} s with it and {without:.3g} s without{where}"
    return f"{text}."


def of_plan(case: CaseRecord) -> Table | None:
    """The plan of a case as a table, for a report of a port."""
    found = case.plan
    if found is None:
        return None
    rows = [
        ("plan", f"{found.file} ({found.sha256[:12]})"),
        ("modules in float32", ", ".join(found.modules)),
    ]
    if len(found.seconds) == 2 and not found.emulated:
        without, planned = found.seconds
        rows.append(("time of a pass, with / without", f"{planned / without:.3f}"))
    return Table(label(case, "Modules that stay in float32"), ("item", "value"), tuple(rows))


def _predicted(found: ErrorShares) -> str:
    return (
        f"To first order {found.arithmetic} costs an rmse of {found.predicted_rmse:.3g} "
        f"(the imitation has {found.budget_rmse:.3g}, the device {found.device_rmse:.3g}; "
        f"{found.images} images)."
    )


def _listed(parts: tuple[Part, ...]) -> str:
    return ", ".join(f"{part.name} {_percent(part.share)}" for part in parts)


def _percent(share: float) -> str:
    text = f"{100 * share:.0f} %"
    if text == "0 %" and share > 0:
        return "< 1 %"
    return "> 99 %" if text == "100 %" and share < 1 else text
