"""What a sweep over a cluster runs on a node: one case a task, on the device the cluster gave it.

A node's process keeps its device's process from one case to the next, as a run on one host does.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.cases.case import Case
from harness.devices import leases
from harness.devices.choice import Choice, choose
from harness.devices.spec import DeviceSpec
from harness.execution.settings import RunSettings
from harness.execution.sides import Sides
from harness.records import consistency, results_file
from harness.records.lines import CaseRecord
from harness.runs import resume
from harness.runs.runner import CaseRunner
from harness.system import environment, files, foreign, shown
from harness.system.messages import say
from harness.system.status import CaseProblem, Finding, Stage, Status, UsageProblem
from harness.system.visible_devices import VARIABLE


@dataclasses.dataclass(frozen=True)
class Node:
    """A node's device as `--device` settles it there, and its versions and settings."""

    host: str
    choice: Choice
    environment: dict[str, str]

    def unlike(self, other: Node) -> list[str]:
        """What keeps records of two nodes from standing in one run, a phrase each."""
        found = environment.differences(self.environment, other.environment, "not set")
        if self.choice.spec.kind != other.choice.spec.kind:
            found.append(("device", self.choice.spec.kind, other.choice.spec.kind))
        return [
            f"{name} is {ours} on {self.host} and {theirs} on {other.host}"
            for name, ours, theirs in found
            if not resume.is_free(name)
        ]


@dataclasses.dataclass(frozen=True)
class Began:
    """A node began a case."""

    case_id: str
    device: str  # with its host


@dataclasses.dataclass(frozen=True)
class Refused:
    """A node cannot run cases of this run, and why."""

    case_id: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Ended:
    """A case's record, and the files that it names with their contents."""

    record: CaseRecord
    device: str
    files: dict[str, bytes]

    @property
    def case_id(self) -> str:
        """Id of the case."""
        return self.record.case_id


Event = Began | Refused | Ended


def sound(sent: Ended, case: Case, *, emulated: bool) -> Ended:
    """What a node sent of a case, or `error_harness` with the reason when it is no record of it.

    It was made by another process, perhaps another harness: any object may stand in any field.
    """
    device = shown.line(str(getattr(sent, "device", "a node")))
    try:
        record = CaseRecord.model_validate_json(sent.record.model_dump_json(warnings=False))
        contradiction = consistency.of_case(record, None)
        if record.case_id != case.id or record.case.id != case.id:
            raise ValueError(f"it is of {record.case_id}")
        if record.emulated != emulated:
            raise ValueError(f"emulated is {record.emulated}")
        if contradiction:
            raise ValueError(f"it contradicts itself: {contradiction}")
        if strange := sorted(set(sent.files) - set(record.files)):
            raise ValueError(f"it came with a file that it does not name: {strange[0]!r}")
        if not all(isinstance(content, bytes) for content in sent.files.values()):
            raise ValueError("its files are no bytes")
        return Ended(record, device, dict(sent.files))
    except Exception as error:
        said = say("cluster.no_record", "What {device} sent is no record: {error}.", device=device,
                   error=error)  # fmt: skip
        problem = CaseProblem(Status.ERROR_HARNESS, Stage.COMPARE, said)
    finding = Finding(problem.status, problem.stage, problem.reason)
    record = CaseRecord(
        case_id=case.id,
        case=case,
        status=problem.status,
        stage=problem.stage,
        reason=problem.reason,
        findings=[finding],
        emulated=emulated,
    )
    return Ended(record, device, {})


@dataclasses.dataclass(frozen=True)
class _Kept:
    settings: RunSettings
    visible: str
    runner: CaseRunner
    scratch: tempfile.TemporaryDirectory[str]


_kept: _Kept | None = None


def look(device: str) -> Node:
    """Say what the node that this runs on has.  Raises UsageProblem without such a device."""
    return _look(device, os.environ.get(VARIABLE))


@functools.cache
def _look(device: str, visible: str | None) -> Node:
    return Node(socket.gethostname(), choose(device), environment.capture())


def run(case: Case, settings: RunSettings, like: Node, device: str) -> Iterator[Event]:
    """Run one case here; `like`: the node whose versions this one's must equal."""
    host = socket.gethostname()
    try:
        unlike = like.unlike(look(device))
        lease = leases.take(settings.device, exact=True)
    except UsageProblem as problem:
        yield Refused(case.id, f"{host}: {problem}")
        return
    name = _name(host, settings.device)
    try:
        if unlike:
            yield Refused(case.id, f"{'; '.join(unlike)}: records of one run need one environment")
            return
        yield Began(case.id, name)
        runner, scratch = _runner(settings)
        record = runner.run(case)
        yield Ended(record, name, _files(record, scratch))
    except UsageProblem as problem:
        yield Refused(case.id, f"{name}: {problem}")
    finally:
        lease.release()


def _name(host: str, spec: DeviceSpec) -> str:
    """A device by its number on its host: here every process sees but one."""
    names = leases.devices_of(spec.kind)
    return f"{host}/{spec.kind}:{names[spec.index]}" if names else f"{host}/{spec}"


def _runner(settings: RunSettings) -> tuple[CaseRunner, Path]:
    """The runner of this process: made anew when the cluster gives it another device."""
    global _kept
    visible = os.environ.get(VARIABLE, "")
    if _kept is None or (_kept.settings, _kept.visible) != (settings, visible):
        if _kept is not None:
            _kept.runner.close()
            _kept.scratch.cleanup()
        scratch = tempfile.TemporaryDirectory(prefix="npu-accuracy-")
        here = dataclasses.replace(settings, cache_dir=files.default_cache_dir())
        # Reproducers are written beside the results.
        runner = CaseRunner(Sides(here), Path(scratch.name, "results.jsonl"))
        _kept = _Kept(settings, visible, runner, scratch)
    return _kept.runner, Path(_kept.scratch.name)


def _files(record: CaseRecord, directory: Path) -> dict[str, bytes]:
    found = {}
    for name in record.files:
        content = foreign.read_below(directory, name, results_file.FILE_BYTES)
        if content is not None:
            found[name] = content
            (directory / name).unlink()
    return found
