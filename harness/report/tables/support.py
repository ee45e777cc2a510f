"""What `support` found: a table with a row for each model and dtype, then every objection."""

from __future__ import annotations

from collections.abc import Sequence

from harness.qualification.support import Objection, Support
from harness.report.tables.cells import Table, tabulated

_MOST = 300  # characters of a call


def overview(found: Sequence[Support]) -> Table:
    """One row a model and dtype."""
    return tabulated(
        "Does CANN as published accept every operator call? Read in its sources, not measured",
        found,
        ("model", lambda s: s.name),
        ("dtype", lambda s: s.dtype),
        ("answer", lambda s: s.answer),
        ("calls", lambda s: str(s.calls)),
        ("operators", lambda s: str(len(s.operators))),
        ("refused", lambda s: _count(s, "refused")),
        ("unknown", lambda s: _count(s, "unknown")),
    )


def lines(found: Sequence[Support]) -> list[str]:
    """What is refused or not known, and whose pass could not be followed to its end."""
    said = []
    for support in found:
        said += [_said(support, one) for one in support.objections]
        if support.stopped:
            said.append(
                f"{support.name} in {support.dtype} was followed through {support.calls} calls "
                f"only: {support.stopped}."
            )
    return said


def _said(support: Support, one: Objection) -> str:
    times = f", {one.times} times" if one.times > 1 else ""
    call = one.call if len(one.call) <= _MOST else f"{one.call[:_MOST]}..."
    return "\n".join(
        (
            f"{one.answer}: {call}, {support.name} in {support.dtype}, first in module "
            f"{one.module}{times}",
            f"  rule: {one.operator} {one.rule}".replace("  rule:  ", "  rule: "),
            *([f"  source: {one.source}"] if one.source else []),
            f"  remedy: {one.remedy}",
        )
    )


def _count(support: Support, answer: str) -> str:
    return str(sum(one.times for one in support.objections if one.answer == answer))
