"""A prescription as a table of its tries, and what came of it in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from harness.prescription.prescribe import Prescription, Try
from harness.report.tables.cells import EMULATED, Table, tabulated

_SHOWN = 6  # modules of a sentence
_UNITS = {"error_rate": " %", "top1": " %"}


def tries(found: Prescription) -> Table:
    """A row a pair."""
    metrics = [name for name in found.tries[0].observed if name in found.target]
    title = f"{found.case.id} on {found.device.shown}: {found.target}"
    if found.device.emulated and EMULATED not in title:
        title += f" ({EMULATED})"

    def metric(name: str, one: Try) -> str:
        predicted = f" ({_number(one.predicted[name], name)})" if one.predicted else ""
        return f"{_number(one.observed[name], name)}{predicted}"

    return tabulated(
        title,
        found.tries,
        ("modules in float32", lambda one: f"{one.count} of {found.modules}"),
        ("rmse (predicted)", lambda one: f"{one.rmse:.3g} ({one.predicted_rmse:.3g})"),
        *((f"{name} (predicted)", lambda one, name=name: metric(name, one)) for name in metrics),
        ("seconds", lambda one: f"{one.seconds:.3g}"),
        ("target", lambda one: "met" if one.met else "missed"),
    )


def lines(found: Prescription, output: Path) -> list[str]:
    """What came of it; `output`: where the plan is."""
    best = found.tries[found.chosen]
    if not best.modules:
        if found.met:
            return [f"{found.target} holds without a plan: nothing has to stay in float32."]
        return [found.reason, "No try came nearer than the model without a plan: none is written."]
    said = []
    if found.overflowing:
        said.append(f"Beyond the range of {found.case.dtype}: {_list(found.overflowing)}.")
    what = f"{best.count} of {found.modules} modules in float32 ({_list(best.modules)})"
    without = found.tries[0].seconds
    # Of an emulated device a time says nothing.
    cost = "" if found.device.emulated else f", at {best.seconds / without:.2f} times the time"
    if found.met:
        return [*said, f"{found.target} holds with {what}{cost}: {output}."]
    return [*said, found.reason, f"The best that was found has {what}{cost}: {output}."]


def _list(modules: Sequence[str]) -> str:
    more = len(modules) - _SHOWN
    return ", ".join(modules[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _number(value: float, name: str) -> str:
    return "not finite" if math.isnan(value) else f"{value:.4g}{_UNITS.get(name, '')}"
