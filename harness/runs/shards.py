"""Divides a run into shards for several hosts: every case in exactly one of them.

The hosts do not talk to each other, so the division follows only from what is the same on all of
them: the selected cases, and the stored sizes of their models or, where all hosts are given one
file (`--shard-durations`), the durations in it; a host's own history would divide differently on
each.  The plan's digest goes into the records, and `merge` says so when shards were divided by
different plans.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.cases.case import Case
from harness.records import results_file
from harness.records.lines import ShardInfo
from harness.system.status import UsageProblem
from harness.upgrade import history


@dataclasses.dataclass(frozen=True)
class Shard:
    """Part `number` (from 1) of `of`."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def parse(text: str) -> Shard:
    """Read "2/3"; raises argparse.ArgumentTypeError."""
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a shard: give I/N, from 1/N to N/N")
    return Shard(int(match[1]), int(match[2]))


def split(cases: Sequence[Case], seconds: Mapping[str, float], of: int) -> list[list[Case]]:
    """Divide cases into `of` parts of about equal time; each keeps the order of `cases`.

    `seconds`: by case id; a case that it lacks counts as the median of the others, so that
    without any the parts are equal by number.  Cases that share their CPU legs stay together,
    where these are computed once.  The longest go first, each to the part with the least so far
    (R. L. Graham, SIAM J. Appl. Math. 17, 1969: at most 4/3 of the best division).
    """
    usual = statistics.median(seconds.values()) if seconds else 1.0
    groups: dict[tuple[object, ...], list[Case]] = {}
    for case in cases:
        groups.setdefault((case.model, case.inputs, case.dtype, case.batch_size), []).append(case)

    def length(group: list[Case]) -> float:
        return sum(seconds.get(case.id, usual) for case in group)

    loads = [(0.0, 0)] * of
    chosen: dict[str, int] = {}
    for group in sorted(groups.values(), key=lambda group: (-length(group), group[0].id)):
        part = min(range(of), key=lambda index: (*loads[index], index))
        loads[part] = (loads[part][0] + length(group), loads[part][1] + len(group))
        chosen.update(dict.fromkeys((case.id for case in group), part))
    return [[case for case in cases if chosen[case.id] == index] for index in range(of)]


def choose(
    cases: Sequence[Case], seconds: Mapping[str, float], shard: Shard
) -> tuple[list[Case], ShardInfo]:
    """The cases of one shard, and what its records say of the whole."""
    parts = split(cases, seconds, shard.of)
    plan = json.dumps([sorted(case.id for case in part) for part in parts])
    info = ShardInfo(
        number=shard.number,
        of=shard.of,
        whole=[case.id for case in cases],
        plan=hashlib.sha256(plan.encode()).hexdigest()[:16],
    )
    return parts[shard.number - 1], info


def durations(path: Path) -> dict[str, float]:
    """Seconds of each case, by id: from a results file, its folder, or a history file.

    Raises UsageProblem for a file that holds none.
    """
    if not path.exists():
        raise UsageProblem(
            f"No durations in {path}, which does not exist: give a results file, its folder, or a "
            "history file."
        )
    past = history.read_file(path) if path.is_file() else []
    found = {entry.case_id: entry.seconds for entry in past if entry.seconds is not None}
    if not found:
        cases = results_file.read_run(path).cases
        found = {case.case_id: case.duration_seconds for case in cases}
    known = {case: value for case, value in found.items() if 0 < value < float("inf")}
    if not known:
        raise UsageProblem(f"{path} holds no duration of a case: give the records of a run.")
    return known
