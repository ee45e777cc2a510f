"""The cases that are not as they should be, by what is wrong: one culprit is said once.

Cases belong together that name one operator, or whose reasons say the same by their ids, whatever
the files, numbers and names in them.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Sequence

from harness.judgement.operator_rows import OperatorRow
from harness.records.lines import CaseRecord
from harness.system import shown
from harness.system.messages import PLAIN, Message, Said, listed, of, say
from harness.system.status import Status, worst

_MODULES = 2  # named in a line
_LONGEST = 160  # characters of a reason in a line
# What tells causes of one sentence apart.
_SAME = ("operator", "operators", "output", "error")
# Without ids: numbers and what stands in quotes differ between cases with one cause.
_VARIES = re.compile(r"'[^']*'|\d[\d.e+-]*")


@dataclasses.dataclass(frozen=True)
class Failures:
    """Cases with one cause, the worst budget ratio first."""

    cases: tuple[CaseRecord, ...]

    @property
    def status(self) -> Status:
        """The worst status among them."""
        return worst(case.status for case in self.cases)

    @property
    def line(self) -> Said:
        """How bad it is, in how many cases, and the cause."""
        statuses = list(dict.fromkeys(case.status.value for case in self.cases))
        ratios = [case.budget_ratio for case in self.cases if case.budget_ratio is not None]
        many = len(self.cases) > 1
        return say(
            "failures.line",
            "{statuses}{cases}{ratio}: {cause}",
            cause=self.cause,
            statuses=listed(statuses),
            cases=say("failures.cases", ", {count} cases", count=len(self.cases)) if many else "",
            ratio=say(
                "failures.ratio",
                ", error up to {ratio} times the budget",
                ratio=f"{max(ratios, key=_as_number):.3g}",
            )
            if ratios
            else "",
        )

    @property
    def cause(self) -> Said:
        """The culprit and its modules, else the reason."""
        rows = [row for case in self.cases if (row := culprit(case)) is not None]
        if not rows:
            return because(self.cases[0])
        modules = list(dict.fromkeys(row.module for row in rows))
        more = len(modules) - _MODULES
        return say(
            "failures.culprit",
            "Culprit {operator} in {modules}{more}",
            operator=rows[0].operator,
            modules=listed(modules[:_MODULES]),
            more=say("failures.more", " and {count} more", count=more) if more > 0 else "",
        )

    def detail(self, case: CaseRecord) -> Said:
        """What is to be said of one of the cases beside `line`."""
        if culprit(case) is None or case.budget_ratio is None:
            return because(case)
        ratio = f"{case.budget_ratio:.3g}"
        return say("failures.times", "{ratio} times the budget", ratio=ratio)


def culprit(case: CaseRecord) -> OperatorRow | None:
    """The operator that is wrong by itself, the worst where there are several."""
    if case.localization is not None and case.localization.culprits:
        return case.localization.culprits[0]
    check = case.operators
    return check.worst[0] if check is not None and check.culprits else None


def because(case: CaseRecord) -> Said:
    """Why a case is not as it should be, in a line; "" for one that is."""
    sentence = case.expected.sentence if case.expected is not None else ""
    text = " ".join(shown.line(case.reason or sentence).split())
    messages = case.reason_messages or of(text)
    return Said(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ...", messages)


def grouped(cases: Sequence[CaseRecord]) -> list[Failures]:
    """Group cases that are not as they should be; causes of most cases first."""
    found: dict[object, list[CaseRecord]] = {}
    for case in cases:
        row = culprit(case)
        cause = (case.status, _kind(case)) if row is None else row.operator
        found.setdefault(cause, []).append(case)
    groups = [Failures(tuple(sorted(group, key=_ratio, reverse=True))) for group in found.values()]
    # A named operator says most; of the others the verdicts lead what is no verdict.
    return sorted(
        groups, key=lambda g: (culprit(g.cases[0]) is None, g.status.is_error, -len(g.cases))
    )


def _kind(case: CaseRecord) -> object:
    """What a reason says, without what differs between cases of one cause."""

    def kind(messages: Iterable[Message]) -> object:
        return tuple(
            (
                one.id,
                *(
                    kind(value) if not isinstance(value, str) else value
                    for name, value in one.values.items()
                    if not isinstance(value, str) or name in _SAME
                ),
            )
            for one in messages
        )

    if any(one.id == PLAIN for one in case.reason_messages):
        return _VARIES.sub("#", case.reason)
    return kind(case.reason_messages)


def _ratio(case: CaseRecord) -> float:
    return -1.0 if case.budget_ratio is None else _as_number(case.budget_ratio)


def _as_number(ratio: float) -> float:
    return math.inf if ratio != ratio else ratio
