"""Joins the records of shards, or of parts of a run, into one file, and judges the whole.

One file stands for one stack: parts that differ in versions, settings or devices are joined, the
differences named, and the whole is incomplete unless they are accepted.
"""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import Sequence
from pathlib import Path

from harness.cases.case import Case
from harness.devices import emulated_kernels
from harness.records import attempts, results_file
from harness.records.fingerprint_changes import Change
from harness.records.lines import CaseRecord, EndRecord, RunRecord, StartRecord
from harness.records.results_file import Run
from harness.runs import resume, session
from harness.system import environment
from harness.system.status import ExitCode, UsageProblem, worst_exit_code
from harness.upgrade import compare, history

# Of the environment and the devices, by the names of `compare.environment_changes`: cards, hosts
# and CPUs of one kind differ in these, and the CPU's timing is no part of a verdict.
_OWN = ("device uuid", "CPU ")


@dataclasses.dataclass(frozen=True)
class Merged:
    """The whole, and what a reader must know of how it came about.

    `differences`: name, first part's value, another's, that part's id; `conflicts`: a sentence for
    each case that was judged differently; `notes`: what was settled without harm.
    """

    run: Run
    differences: tuple[tuple[str, str, str, str], ...]
    conflicts: tuple[str, ...]
    notes: tuple[str, ...]
    code: ExitCode


def merge(paths: Sequence[Path], output: Path, *, allow_differences: bool = False) -> Merged:
    """Join results files (or folders that hold one) into output/results.jsonl.

    Raises UsageProblem for a file that is no run, a part given twice, parts that stand for
    different cases under one id, and a folder that cannot be written; nothing is written then.
    """
    parts = [_read(path) for path in paths]
    ids = [_own(part).run_id for part in parts]
    if twice := next((i for i in ids if ids.count(i) > 1), None):
        raise UsageProblem(f"The run {twice} is given twice: give each part once.")
    conflicts: list[str] = []
    notes: list[str] = _plans(parts)
    chosen: dict[str, tuple[CaseRecord, Path]] = {}
    for part, path in zip(parts, paths, strict=True):
        directory = results_file.folder(path)
        for case in part.cases:
            before = chosen.get(case.case_id)
            if before is None:
                chosen[case.case_id] = case, directory
                continue
            _check_same(before[0], case)
            kept = attempts.stands(before[0], case)
            own = kept.duration_seconds == case.duration_seconds and kept.status is case.status
            chosen[case.case_id] = kept, directory if own else before[1]
    for case, _ in chosen.values():
        if case.attempts:
            (conflicts if case.contested else notes).append(
                f"{case.case_id}: {attempts.sentence(case)}"
            )
    run = _joined(parts, [case for case, _ in chosen.values()])
    differences = () if allow_differences else _differences(parts)
    codes = [session.exit_code(run, other_failures=_broken(parts))]
    if differences:
        codes.append(ExitCode.INCOMPLETE)
    code = worst_exit_code(codes)
    run = run.model_copy(update={"end": EndRecord(exit_code=code, finished=_now())})
    held = results_file.own(output)
    try:
        for case, directory in chosen.values():
            results_file.carry(case, directory, output)
        _write(run, output)
        assert run.run is not None
        planted = run.run.settings.get("fault_plan", "none") != "none"
        if not run.missing and not planted and _default_kernels(run.run):
            history.append(output / "history", run)
    finally:
        held.release()
    return Merged(run, differences, tuple(conflicts), tuple(notes), code)


def _default_kernels(run: RunRecord) -> bool:
    """Whether the device computed with its own kernels, or the emulator with its default ones."""
    kernels = run.settings.get("emulated_kernels")
    return kernels == (emulated_kernels.DEFAULT if run.emulated else None)


def _read(path: Path) -> Run:
    run = results_file.read_run(path)
    if run.run is None:
        raise UsageProblem(f"{path} lacks the line of the run itself, so it is no part of one.")
    return run


def _own(part: Run) -> RunRecord:
    assert part.run is not None
    return part.run


def _check_same(first: CaseRecord, second: CaseRecord) -> None:
    """Raise UsageProblem for two cases under one id."""
    reason = compare.incomparable(first, second)
    if not reason and _content(first.case) != _content(second.case):
        reason = "the cases differ in what they select"
    if reason:
        raise UsageProblem(
            f"Two parts hold different cases as {first.case_id} ({reason}): they are not of one "
            "run."
        )


def _content(case: Case) -> Case:
    """A case without what names a place on one host, and without its tier."""
    model, inputs = case.model, case.inputs
    if model.kind == "directory":
        model = dataclasses.replace(model, ref=model.name)
    if inputs.path is not None:
        inputs = dataclasses.replace(inputs, path=Path(inputs.path).name)
    return dataclasses.replace(case, model=model, inputs=inputs, tier="")


def _plans(parts: Sequence[Run]) -> list[str]:
    """What is odd about the shards: other divisions, some not given."""
    given = [shard for part in parts if (shard := _own(part).shard) is not None]
    notes = []
    if len({(shard.of, shard.plan) for shard in given}) > 1:
        notes.append(
            "The shards were divided by different plans, so that cases may be in none or in two: "
            "give the same cases and --shard-durations to all."
        )
    elif given:
        # A shard without any case leaves no records.
        lost = sorted(set(range(1, given[0].of + 1)) - {shard.number for shard in given})
        if lost:
            names = ", ".join(f"{number}/{given[0].of}" for number in lost)
            notes.append(f"No records of shard {names}.")
    return notes


def _joined(parts: Sequence[Run], cases: list[CaseRecord]) -> Run:
    """One run of all cases that any part, or the run that was divided, selected."""
    first = min((_own(part) for part in parts), key=lambda own: own.started)
    whole: dict[str, None] = {}
    fingerprints: dict[str, str] = {}
    for own in map(_own, parts):
        whole |= dict.fromkeys([*(own.shard.whole if own.shard else ()), *own.cases])
        fingerprints |= own.fingerprints
    order = {case: place for place, case in enumerate(whole)}
    record = first.model_copy(
        update={
            "run_id": uuid.uuid4().hex[:12],
            "cases": list(whole),
            "fingerprints": fingerprints,
            "shard": None,
            "parts": list(
                dict.fromkeys(i for p in parts for i in (*_own(p).parts, _own(p).run_id))
            ),
            "emulated": any(_own(part).emulated for part in parts),
        }
    )
    cases.sort(key=lambda case: order.get(case.case_id, len(order)))
    started = [case for part in parts for case in part.started]
    return Run(run=record, cases=cases, end=None, started=started)


def _differences(parts: Sequence[Run]) -> tuple[tuple[str, str, str, str], ...]:
    """What must be alike in one stack and is not, each part beside the first."""
    first = parts[0]
    found = []
    for part in parts[1:]:
        name = _own(part).run_id
        kinds = [_own(side).device_kind for side in (first, part)]
        if kinds[0] != kinds[1]:
            found.append(("device", kinds[0], kinds[1], name))
        changes = compare.environment_changes(first, part)
        found += [
            (key, before, after, name)
            for key, before, after in changes
            # Said of the device by no case, where all of them failed before they came to it.
            if not (
                key.startswith(_OWN) or resume.is_free(key) or "not recorded" in (before, after)
            )
        ]
        found += [
            (f"arithmetic {one.format} {one.operator} {one.trait}", one.old, one.new, name)
            for one in compare.arithmetic_changes(first, part)
            if one.change is not Change.BITS
        ]
        options = environment.differences(_own(first).settings, _own(part).settings, "not set")
        found += [(f"option {key}", before, after, name) for key, before, after in options]
    return tuple(found)


def _broken(parts: Sequence[Run]) -> int:
    """Parts that failed for something that is no case, such as a broken test."""
    return sum(
        part.end is not None
        and part.end.exit_code == ExitCode.FAILED
        and session.exit_code(part) is not ExitCode.FAILED
        for part in parts
    )


def _write(run: Run, output: Path) -> None:
    assert run.run is not None and run.end is not None
    in_flight = [StartRecord(case_id=case) for case in run.in_flight]
    results_file.start(output, run.run, [*in_flight, *run.cases, run.end])


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)
