"""The cases that are not as they should be, by what is wrong: one culprit is said once."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence

from harness.judgement.operator_rows import OperatorRow
from harness.records.lines import CaseRecord
from harness.report.tables.cells import first
from harness.system import shown
from harness.system.status import Status

_MODULES = 2  # named in a line
_LONGEST = 160  # characters of a reason in a line
# Numbers and what stands in quotes differ between cases with one cause.
_VARIES = re.compile(r"'[^']*'|\d[\d.e+-]*")


@dataclasses.dataclass(frozen=True)
class Failures:
    """Cases with one status and one cause, the worst budget ratio first."""

    status: Status
    cases: tuple[CaseRecord, ...]

    @property
    def line(self) -> str:
        """The cause, how many cases have it, and how bad it is."""
        parts = [self.cause, self.status.value]
        if len(self.cases) > 1:
            parts.append(f"{len(self.cases)} cases")
        ratios = [case.budget_ratio for case in self.cases if case.budget_ratio is not None]
        if ratios:
            parts.append(f"error up to {max(ratios, key=_as_number):.3g} times the budget")
        return ", ".join(parts)

    @property
    def cause(self) -> str:
        """The culprit and its modules, else the reason."""
        rows = [row for case in self.cases if (row := culprit(case)) is not None]
        if not rows:
            return because(self.cases[0])
        modules = list(dict.fromkeys(row.module for row in rows))
        return f"Culprit {rows[0].operator} in {first(modules, _MODULES)}"


def culprit(case: CaseRecord) -> OperatorRow | None:
    """The operator that is wrong by itself, the worst where there are several."""
    if case.localization is not None and case.localization.culprits:
        return case.localization.culprits[0]
    check = case.operators
    return check.worst[0] if check is not None and check.culprits else None


def because(case: CaseRecord) -> str:
    """Why a case is not as it should be, in a line; "" for one that is."""
    sentence = case.expected.sentence if case.expected is not None else ""
    text = " ".join(shown.line(case.reason or sentence).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."


def grouped(cases: Sequence[CaseRecord]) -> list[Failures]:
    """Group cases that are not as they should be; causes of most cases first."""
    found: dict[tuple[Status, str], list[CaseRecord]] = {}
    for case in cases:
        row = culprit(case)
        cause = row.operator if row is not None else _VARIES.sub("#", case.reason)
        found.setdefault((case.status, cause), []).append(case)
    groups = [
        Failures(status, tuple(sorted(group, key=_ratio, reverse=True)))
        for (status, _), group in found.items()
    ]
    # A named operator says most; of the others the verdicts lead what is no verdict.
    return sorted(
        groups, key=lambda g: (culprit(g.cases[0]) is None, g.status.is_error, -len(g.cases))
    )


def _ratio(case: CaseRecord) -> float:
    return -1.0 if case.budget_ratio is None else _as_number(case.budget_ratio)


def _as_number(ratio: float) -> float:
    return math.inf if ratio != ratio else ratio
