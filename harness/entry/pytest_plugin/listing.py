"""The cases of a run before it runs: what each is and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.cases import sizes
from harness.cases.case import Case
from harness.report import text
from harness.report.tables.cells import Table


def render(cases: Sequence[Case], seconds: Mapping[str, float]) -> str:
    """A row a case, then the sums; `seconds`: what an earlier run took, by id."""
    table = Table("Cases", _HEADER, tuple(_row(case, seconds.get(case.id)) for case in cases))
    known = [cost for case in cases if (cost := sizes.gmacs(case)) is not None]
    line = f"{len(cases)} cases, {sum(known):.3g} GMAC a pass"
    if unknown := len(cases) - len(known):
        line += f" and {unknown} of unknown size"
    measured = [seconds[case.id] for case in cases if case.id in seconds]
    if measured:
        line += f"; {len(measured)} of them took {sum(measured):.0f} s before"
    return f"{text.render_table(table)}\n\n{line}" if cases else line


_HEADER = ("case", "tier", "parameters", "input", "GMAC a pass", "memory at least", "seconds")


def _row(case: Case, seconds: float | None) -> tuple[str, ...]:
    found = sizes.of(case.model)
    cost = sizes.gmacs(case)
    return (
        case.id,
        case.tier,
        sizes.show(found.parameters if found else None),
        "x".join(map(str, found.input_size)) if found else "?",
        "?" if cost is None else f"{cost:.3g}",
        sizes.show(sizes.memory(case), "B"),
        "not run yet" if seconds is None else f"{seconds:.1f}",
    )
