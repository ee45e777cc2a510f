"""Refuses a case that cannot fit into memory, before anything of it is loaded."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from harness.cases import needed_memory
from harness.cases.case import Case
from harness.cases.models import loading
from harness.cases.needed_memory import Way
from harness.system import control_group, process
from harness.system.messages import say
from harness.system.status import CaseProblem, Stage, Status

if TYPE_CHECKING:
    from harness.execution.settings import RunSettings
    from harness.execution.sides import Sides

# What takes operators one by one out of a run.
_WITHOUT_OPERATORS = "--operator-share 0 --localize never"


def check(case: Case, sides: Sides) -> None:
    """Raise CaseProblem (error_oom) for a case that needs more memory than there is.

    What the processes of both sides hold already is theirs to use.
    """
    free = process.available()
    way = _way(case, sides.settings)
    needed = needed_memory.needed(case, way)
    if free is None or needed is None:
        return
    room = free + sides.worker.resident() + sides.cpu.worker.resident()
    if needed <= room:
        return
    limit = control_group.limit()
    raise CaseProblem(
        Status.ERROR_OOM,
        Stage.LOAD,
        say(
            "memory.short",
            "The case takes up to {needed} GB of memory, and there are {room} GB{limit}: {remedy}.",
            needed=_giga(needed),
            room=_giga(room),
            limit=""
            if limit is None
            else say("memory.limit", " (a limit of {limit} GB is set)", limit=_giga(limit)),
            remedy=_remedy(case, way, room),
        ),
    )


def _way(case: Case, settings: RunSettings) -> Way:
    made = True
    if case.model.kind == "architecture":
        made = loading.random_directory(case.model, settings.cache_dir)[0].is_dir()
    return Way(made, settings.operator_share != 0 or settings.localize != "never")


def _remedy(case: Case, way: Way, room: int) -> str:
    """What would fit, or that nothing would."""
    smaller = [case.batch_size >> shift for shift in range(1, case.batch_size.bit_length())]
    for asked in (way, dataclasses.replace(way, operators=False)):
        for size in (case.batch_size, *smaller):
            bytes_ = needed_memory.needed(dataclasses.replace(case, batch_size=size), asked)
            if bytes_ is None or bytes_ > room:
                continue
            options = [f"--batch-size {size}"] if size != case.batch_size else []
            options += [_WITHOUT_OPERATORS] if asked != way else []
            return say(
                "memory.fits",
                "with {options} it takes {size} GB",
                options=" ".join(options),
                size=_giga(bytes_),
            )
    if not way.made:
        stored = needed_memory.needed(case, dataclasses.replace(way, made=True))
        if stored is not None and stored <= room:
            return say(
                "memory.made",
                "its weights take the most to make, and with those that another host has made "
                "(copy its cache) it takes {size} GB",
                size=_giga(stored),
            )
    least = needed_memory.needed(dataclasses.replace(case, batch_size=1), Way(True, False))
    return say(
        "memory.none",
        "end other programs, raise a limit that is set or use a host with more, for even with "
        "{options} it takes {size} GB",
        options=f"--batch-size 1 {_WITHOUT_OPERATORS}",
        size=_giga(least or 0),
    )


def _giga(size: int) -> str:
    return f"{size / 1e9:.1f}"
