"""How the CPU's answers are kept in the reference cache: as arrays and facts, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
from pydantic import TypeAdapter

from harness.devices.device import Counters
from harness.execution.legs import LegResult
from harness.execution.reference.entries import Stored
from harness.judgement.metrics import Array
from harness.judgement.shares import Shares
from harness.records.leg import LegRecord

_SHARES = TypeAdapter(Shares)

_Answer = TypeVar("_Answer")
_Entry = tuple[dict[str, Array], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Form(Generic[_Answer]):
    """How an answer is kept: its arrays and facts, None for one that is not, and back.

    `same`: whether one that was computed and one that was stored are as good as one.
    """

    entry: Callable[[_Answer], _Entry | None]
    restored: Callable[[Stored], _Answer]
    same: Callable[[_Answer, _Answer], bool]


def _same_outputs(fresh: LegResult, stored: LegResult) -> bool:
    ours, theirs = fresh.outputs, stored.outputs
    return ours.keys() == theirs.keys() and all(
        ours[name].dtype == theirs[name].dtype
        and ours[name].shape == theirs[name].shape
        and ours[name].tobytes() == theirs[name].tobytes()
        for name in ours
    )


def _leg_entry(result: LegResult) -> _Entry | None:
    """A plain CPU leg; None for one that gave more than an entry holds."""
    facts = {
        "logits": result.logits,
        "unstable": list(result.unstable),
        "record": result.record.model_dump(mode="json"),
        "weights": result.weights,
    }
    whole = _from_facts(facts, {}) == dataclasses.replace(result, outputs={})
    return (result.outputs, {"result": facts}) if whole else None


def _from_facts(facts: dict[str, Any], outputs: dict[str, Array]) -> LegResult:
    return LegResult(
        outputs=outputs,
        logits=facts["logits"],
        unstable=tuple(facts["unstable"]),
        record=LegRecord.model_validate(facts["record"]),
        weights=facts["weights"],
        counters=Counters(),
    )


def _restored(stored: Stored) -> LegResult:
    """A leg from the cache; its timing says when it was measured."""
    result = _from_facts(stored.facts["result"], stored.arrays)
    timing = result.record.timing.model_copy(update={"cached_since": stored.made})
    record = result.record.model_copy(update={"timing": timing})
    return dataclasses.replace(result, record=record)


def _shares_entry(found: Shares) -> _Entry | None:
    """Shares; None where they have numbers that are none, which would not come back."""
    facts = _SHARES.dump_python(found, mode="json")
    return ({}, {"shares": facts}) if _SHARES.validate_python(facts) == found else None


def _restored_shares(stored: Stored) -> Shares:
    return _SHARES.validate_python(stored.facts["shares"])


def _same_shares(ours: Shares, theirs: Shares) -> bool:
    """Whether both are of the same roundings, and as good as equal: backward passes may vary."""
    named = [[(one.what, one.name, one.module) for one in each.points] for each in (ours, theirs)]
    least = 1e-6 * float(ours.squares.sum())
    return named[0] == named[1] and np.allclose(ours.squares, theirs.squares, 1e-3, least)


LEG = Form(_leg_entry, _restored, _same_outputs)
SHARES = Form(_shares_entry, _restored_shares, _same_shares)
