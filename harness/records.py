"""Records: everything measured, as versioned JSON lines.  The source of truth of every report.

A results file holds one `run` line, a `start` line for each case as it begins and a `case` line as
it ends, and one `end` line.  A line is appended with a single write and flushed to disk, so that a
run killed at any moment loses at most the case in flight, which its `start` line names.
Non-finite numbers are the strings "NaN", "Infinity"
and "-Infinity".
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from harness import store
from harness.budget import OutputBudget
from harness.cases import Case
from harness.expected import Expectation
from harness.gate import DocumentedGate
from harness.localization import Localization
from harness.memory import MemoryUse
from harness.metrics import Discrimination
from harness.operator_rows import OperatorCheck
from harness.sensitivity import Sensitivity
from harness.status import Stage, Status, UsageProblem
from harness.throughput import Throughput
from harness.timing import Ratio
from harness.verdict import OutputNumbers

SCHEMA_VERSION = 1


class _Record(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", ser_json_inf_nan="strings", protected_namespaces=()
    )
    schema_version: Literal[1] = 1


class DeviceInfo(pydantic.BaseModel):
    """One side of the comparison."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")
    spec: str  # as given: "npu:0", "cpu", ...
    kind: str
    name: str  # marketing name as the driver gives it
    emulated: bool
    index: int = 0
    uuid: str | None = None
    total_memory_bytes: int | None = None
    details: dict[str, str] = {}


class Timing(pydantic.BaseModel):
    """Seconds of each timed forward of one leg, synchronised, after one warm-up.

    `cached_since`: read from the reference cache, measured at that time; None: in this run.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
    batch_size: int
    images: int
    forward_seconds: list[float]
    first_forward_seconds: float
    threads: int | None = None  # of the CPU side
    cached_since: datetime.datetime | None = None

    @property
    def cached(self) -> bool:
        """Whether this was measured in an earlier run, perhaps on another host."""
        return self.cached_since is not None

    @property
    def images_per_second(self) -> float:
        """Images through the model per second, from the median forward."""
        ordered = sorted(self.forward_seconds)
        return self.images / ordered[len(ordered) // 2]


class LegRecord(pydantic.BaseModel):
    """What one leg did, without its outputs."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
    device: DeviceInfo
    numerics: dict[str, str]  # settings as read back from the device
    timing: Timing
    operators: dict[str, int]  # aten operator -> calls in one pass over the images
    fallback_operators: list[str]  # ran on the CPU though the model was on the device
    weights_sha256: str
    memory: MemoryUse | None = None  # loading and all forwards, without operators one by one


class ShardInfo(pydantic.BaseModel):
    """Which part of a divided run this is.

    `whole`: ids of all cases of the undivided run; `plan`: a digest of how they were divided.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")
    number: int  # from 1
    of: int
    whole: list[str]
    plan: str


class RunRecord(_Record):
    """First line of a results file.

    `fingerprints`: of the cases, by id; `settings`: options that a result depends on; `parts`: ids
    of the earlier runs whose records this file holds as well.
    """

    type: Literal["run"] = "run"
    run_id: str
    started: datetime.datetime
    device: str
    device_reason: str
    emulated: bool
    cases: list[str]
    environment: dict[str, str]
    fingerprints: dict[str, str] = {}
    settings: dict[str, str] = {}
    shard: ShardInfo | None = None
    parts: list[str] = []

    @property
    def device_kind(self) -> str:
        """The device without its index."""
        return self.device.partition(":")[0]


class StartRecord(_Record):
    """A case begins: without its `case` line it was in flight when its process ended."""

    type: Literal["start"] = "start"
    case_id: str
    device: str = ""


class CaseRecord(_Record):
    """One case with its verdict."""

    type: Literal["case"] = "case"
    case_id: str
    case: Case
    status: Status
    stage: Stage | None = None
    reason: str = ""
    findings: list[str] = []
    emulated: bool = False
    weights: str = ""
    weights_sha256: str = ""
    inputs: str = ""
    inputs_sha256: str = ""
    labels: list[str] = []
    reference: LegRecord | None = None
    candidate: LegRecord | None = None
    gate: DocumentedGate | None = None
    outputs: list[OutputNumbers] = []
    discrimination: Discrimination | None = None
    arithmetic: str = ""  # what the device declares and is judged against
    budgets: list[OutputBudget] = []
    operators: OperatorCheck | None = None  # compared one by one, where that was asked for
    localization: Localization | None = None  # where it goes wrong, where that was asked for
    notes: list[str] = []  # what was seen and is no reason against the case
    sensitivity: Sensitivity | None = None  # only where it was asked for
    duration_seconds: float = 0.0
    log_tail: str = ""  # what the device's process printed before it died
    throughput: Throughput | None = None  # only where it was asked for; never part of the verdict
    expected: Expectation | None = None  # beside its expected row, where it was compared

    @property
    def files(self) -> tuple[str, ...]:
        """Files that belong to the record, relative to its results."""
        return self.localization.reproducers if self.localization is not None else ()

    @property
    def budget_ratio(self) -> float | None:
        """The greatest budget ratio over outputs and images; None when not measured."""
        return max((row.worst_ratio for row in self.budgets), default=None)

    @property
    def speed_ratio(self) -> float | None:
        """Device throughput over the CPU's; None when not timed, or no measure of a device."""
        sides = self.reference, self.candidate
        if self.emulated or any(leg is None or not leg.timing.forward_seconds for leg in sides):
            return None
        assert self.reference is not None and self.candidate is not None
        cpu, device = self.reference.timing, self.candidate.timing
        return device.images_per_second / cpu.images_per_second

    @property
    def fair_speed_up(self) -> Ratio | None:
        """Speed-up over the CPU at its best setting, at the case's batch size; None as above."""
        if self.emulated or self.throughput is None:
            return None
        return self.throughput.speed_up(self.case.batch_size)


class EndRecord(_Record):
    """Last line: its absence means that the run was cut short."""

    type: Literal["end"] = "end"
    exit_code: int
    finished: datetime.datetime


AnyRecord = RunRecord | StartRecord | CaseRecord | EndRecord
ADAPTER: pydantic.TypeAdapter[AnyRecord] = pydantic.TypeAdapter(
    Annotated[AnyRecord, pydantic.Field(discriminator="type")]
)


def append(path: Path, record: AnyRecord) -> None:
    """Append one line with one write and force it to disk.

    Several processes may append to the same file: O_APPEND keeps their lines whole.
    """
    line = _line(record)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        if _ends_torn(path):
            line = b"\n" + line
        os.write(descriptor, line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Run(pydantic.BaseModel):
    """A results file as read back."""

    run: RunRecord | None
    cases: list[CaseRecord]
    end: EndRecord | None
    torn_lines: int = 0  # lines cut off by a crash
    started: list[str] = []  # ids of cases that began

    @property
    def in_flight(self) -> list[str]:
        """Ids of cases that began and have no record: their process was killed, or still runs."""
        have = {case.case_id for case in self.cases}
        return [case for case in dict.fromkeys(self.started) if case not in have]

    @property
    def unfinished(self) -> list[str]:
        """The missing cases, first those that were in flight, marked as such."""
        caught = set(self.in_flight)
        note = " (in flight when the run was cut short)"
        ordered = sorted(self.missing, key=lambda case: case not in caught)
        return [f"{case}{note * (case in caught)}" for case in ordered]

    @property
    def missing(self) -> list[str]:
        """Ids of selected cases without a record."""
        have = {case.case_id for case in self.cases}
        return [case for case in (self.run.cases if self.run else []) if case not in have]


def read(path: Path) -> Run:
    """Read a results file; a torn last line (crash) is counted, not fatal.

    Raises UsageProblem when the file is missing, has another schema version or is no such file.
    """
    if not path.is_file():
        raise UsageProblem(f"No results file {path}: run pytest first, or give another path.")
    run: RunRecord | None = None
    end: EndRecord | None = None
    cases: dict[str, CaseRecord] = {}
    started: list[str] = []
    torn = 0
    for number, text in _lines(path):
        try:
            raw = json.loads(text)
        except ValueError:
            torn += 1
            continue
        record = _parse(raw, path, number)
        if isinstance(record, RunRecord):
            run = record
        elif isinstance(record, EndRecord):
            end = record
        elif isinstance(record, StartRecord):
            started.append(record.case_id)
        else:
            cases[record.case_id] = record
    if run is None and not cases:
        raise UsageProblem(f"{path} holds no record of a run: is it a results.jsonl file?")
    return Run(run=run, cases=list(cases.values()), end=end, torn_lines=torn, started=started)


def write(run: Run, path: Path) -> None:
    """Write a whole run as a results file, in place of what is there."""
    lines = [record for record in (run.run, *run.cases, run.end) if record is not None]
    path.write_bytes(b"".join(map(_line, lines)))


def read_run(path: Path) -> Run:
    """Read a results file, or the one in a folder.  Raises UsageProblem as `read` does."""
    return read(results_file(path))


def results_file(path: Path) -> Path:
    """The results file, where a folder may have been given instead."""
    return path / "results.jsonl" if path.is_dir() else path


def folder(path: Path) -> Path:
    """Where the records of `read_run` and what belongs to them lie."""
    return path if path.is_dir() else path.parent


def start(results_dir: Path, record: RunRecord, kept: Iterable[AnyRecord] = ()) -> Path:
    """Begin results_dir/results.jsonl; an earlier one moves to results_dir/previous/, never lost.

    `kept`: records to begin with.  At every moment the file is wholly the old one or the new one.
    Raises UsageProblem when the directory cannot be written.
    """
    path = results_dir / "results.jsonl"
    try:
        with store.replacing(path) as temporary:
            with temporary.open("wb") as stream:
                stream.writelines(_line(item) for item in (record, *kept))
                stream.flush()
                os.fsync(stream.fileno())
            if path.exists():
                _set_aside(path)
    except OSError as error:
        raise UsageProblem(
            f"Cannot write results to {results_dir} ({error.strerror}): give --results DIR."
        ) from error
    return path


def _set_aside(path: Path) -> None:
    """Keep a results file under previous/ as well; it stays where it is until it is replaced."""
    previous = path.parent / "previous"
    previous.mkdir(exist_ok=True)
    stamp = datetime.datetime.fromtimestamp(path.stat().st_mtime).strftime("%Y%m%d-%H%M%S")
    serial = 0
    while (target := previous / f"results-{stamp}-{serial:03}.jsonl").exists():
        serial += 1
    try:
        target.hardlink_to(path)
    except OSError:  # the file system has no links
        shutil.copy2(path, target)


def carry(case: CaseRecord, old_dir: Path, new_dir: Path) -> None:
    """Copy the files that a record names, relative to its results, beside other results."""
    for name in case.files:
        source, target = old_dir / name, new_dir / name
        if source.is_file() and source.resolve() != target.resolve():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def _line(record: AnyRecord) -> bytes:
    return record.model_dump_json().encode() + b"\n"


def _parse(raw: Any, path: Path, number: int) -> AnyRecord:
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        raise UsageProblem(
            f"{path}, line {number}: schema version {version!r}, this harness reads "
            f"{SCHEMA_VERSION}."
        )
    try:
        return ADAPTER.validate_python(raw, strict=False)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageProblem(f"{path}, line {number}: {where}: {first['msg']}.") from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open(encoding="utf-8", errors="replace") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield number, line


def _ends_torn(path: Path) -> bool:
    with path.open("rb") as stream:
        if stream.seek(0, os.SEEK_END) == 0:
            return False
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) != b"\n"
