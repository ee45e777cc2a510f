"""An upgrade by its bits: which calls come out otherwise than on an earlier version."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping

from harness.qualification.catalogue import Catalogue
from harness.qualification.grouping import cause, counted, family
from harness.qualification.outcomes import Outcome
from harness.qualification.results import Results

_EXAMPLES = 6


@dataclasses.dataclass(frozen=True)
class Change:
    """Calls of one kernel family whose bits changed.

    `cause`: what they have in common; `statuses`: their verdicts now; `models`: that make them.
    """

    family: str
    cause: str
    calls: tuple[str, ...]
    statuses: Mapping[str, int]
    models: tuple[str, ...]

    def __str__(self) -> str:
        verdicts = ", ".join(f"{count} {status}" for status, count in sorted(self.statuses.items()))
        more = len(self.models) - _EXAMPLES
        named = ", ".join(self.models[:_EXAMPLES]) + (f" and {more} more" if more > 0 else "")
        return f"{self.cause}: {verdicts}; in {counted(len(self.models), 'model')}: {named}"


def differs(old: Outcome, new: Outcome) -> bool:
    """Whether any set of inputs gives other bits, or one of both none.

    Calls that are not deterministic differ by themselves: they are judged every time and are a list
    of their own, the status `flaky`.
    """
    return any(
        not item.same_bits(old.sets.get(name)) and (item.bits or old.status is not new.status)
        for name, item in new.sets.items()
    ) or (not new.sets and old.status is not new.status)


def between(old: Results, new: Results, catalogue: Catalogue) -> tuple[Change, ...]:
    """Changed calls by kernel family, those in most models first; new calls are no change."""
    changed: dict[str, list[str]] = {}
    same: dict[str, list[str]] = {}
    for name, outcome in new.outcomes.items():
        if name in old.outcomes and name in catalogue.signatures:
            kind = family(outcome.signature)
            into = changed if differs(old.outcomes[name], outcome) else same
            into.setdefault(kind, []).append(name)
    found = []
    for kind, names in changed.items():
        texts = [catalogue.signatures[name] for name in names]
        others = [catalogue.signatures[name] for name in same.get(kind, [])]
        models = sorted({model for name in names for model in catalogue.models_of[name]})
        found.append(
            Change(
                family=kind,
                cause=cause(kind, texts, others),
                calls=tuple(sorted(names)),
                statuses=dict(Counter(new.outcomes[name].status.value for name in names)),
                models=tuple(models),
            )
        )
    return tuple(sorted(found, key=lambda change: (-len(change.models), change.family)))
