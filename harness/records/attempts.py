"""Several records of one case: the one that stands, by the same rule wherever they come from.

A case may be tried again by a plugin that reruns or repeats tests, by `--resume`, by Ray, or in
another part of a merged run.  The worse verdict stands, only trouble of the infrastructure is
replaced (`status.standing`), and the record says what every try gave.
"""

from __future__ import annotations

from harness.records.lines import CaseRecord
from harness.system.messages import Said, join, listed, say
from harness.system.status import Status, standing

_NOTE = "Tried "


def stands(first: CaseRecord, second: CaseRecord) -> CaseRecord:
    """The record that stands of two of a case; after several tries it names what all gave.

    Of the same status it is the one that is further off, and the later where they are alike.
    """
    if first.duration_seconds == second.duration_seconds:
        # The same try, written anew with more in it (the batches that were timed), or in two parts.
        timed = first.throughput is None and second.throughput is not None
        if timed or first.status is second.status:
            return second
    tries = [*_tries(first), *_tries(second)]
    if first.status is second.status:
        further = (first.budget_ratio or 0.0) > (second.budget_ratio or 0.0)
        kept = first if further else second
    else:
        kept = first if standing(first.status, second.status) is first.status else second
    notes = [note for note in kept.said_notes if not note.startswith(_NOTE)]
    kept = kept.model_copy(update={"attempts": tries})
    return kept.with_notes([_said(kept), *notes])


def sentence(record: CaseRecord) -> str:
    """What the tries of a case gave; "" where there was one."""
    return _said(record) if record.attempts else ""


def _tries(record: CaseRecord) -> list[Status]:
    return record.attempts or [record.status]


def _said(record: CaseRecord) -> Said:
    gave = [status.value for status in record.attempts]
    in_turn = listed(gave, "then", "{left}, then {right}")
    said = say("attempts", "Tried {count} times: {gave}.", count=len(gave), gave=in_turn)
    if not record.contested:
        return said
    contested = "The worse verdict stands; run it again to see which holds."
    return join(said, say("attempts.contested", contested))
