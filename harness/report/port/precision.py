"""The precision plan of a port: modules that stay in float32, and what that costs in time."""

from __future__ import annotations

from harness.records.lines import CaseRecord
from harness.report.port.texts import Texts
from harness.report.tables.cells import Table


def plan(main: CaseRecord | None, t: Texts) -> Table | None:
    """The plan of the port's main case; None without one."""
    found = main.plan if main is not None else None
    if found is None:
        return None
    rows = [
        (t("plan.file"), f"{found.file} ({found.sha256[:12]})"),
        (t("plan.modules"), ", ".join(found.modules)),
    ]
    if len(found.seconds) == 2:
        without, planned = found.seconds
        time = t("plan.emulated") if found.emulated else f"{planned / without:.3f}"
        rows.append((t("plan.time"), time))
    return Table(t("plan.title"), (t("head.item"), t("head.value")), tuple(rows))
