"""History: one compact line a case for every complete run, in `history/<device kind>.jsonl`.

JSON lines rather than a database: a run appends all its lines in one write, so that runs side by
side cannot tear each other's, files of several machines are joined with `cat`, and a diff shows
what a run added.  Emulated and real devices have files of their own.
"""

from __future__ import annotations

import datetime
import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pydantic

from harness.judgement.budget import EXACT_LIMIT
from harness.judgement.documented import ERROR_RATE_LIMIT_PERCENT
from harness.judgement.verdict import RULES
from harness.records.lines import CaseRecord
from harness.records.results_file import Run
from harness.system import files, foreign
from harness.system.status import Status, UsageProblem

# Versions that make a column of the trend; CANN's comes from the device, the others' are packages.
VERSIONS = ("torch_npu", "cann", "torch", "timm")


class HistoryEntry(pydantic.BaseModel):
    """One case of one run.  `speed_ratio`: device throughput over the CPU's, none if emulated."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="strings")
    time: datetime.datetime
    run_id: str
    case_id: str
    device: str  # its name
    emulated: bool
    versions: dict[str, str]
    status: Status
    rules: str = ""  # as in the case's record
    budget_ratio: float | None = None
    error_rate_percent: float | None = None
    images_per_second: float | None = None
    speed_ratio: float | None = None
    seconds: float | None = None  # that the case took


def entries(run: Run) -> list[HistoryEntry]:
    """What a run adds to the history."""
    if run.run is None:
        return []
    return [_entry(run, case) for case in run.cases]


def append(directory: Path, run: Run) -> Path | None:
    """Add a run to the history of its device kind; None when it has no case.

    Raises UsageProblem when the file cannot be written.
    """
    found = entries(run)
    if run.run is None or not found:
        return None
    path = directory / f"{run.run.device_kind}.jsonl"
    lines = "".join(entry.model_dump_json(exclude_none=True) + "\n" for entry in found)
    content = lines.encode()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            if files.ends_torn(path):
                content = b"\n" + content
            if os.write(descriptor, content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UsageProblem(f"The history {path} cannot be written ({error.strerror}).") from error
    return path


def read(directory: Path, device_kind: str) -> list[HistoryEntry]:
    """The history of a device kind, oldest first; empty when there is none."""
    path = directory / f"{device_kind}.jsonl"
    return read_file(path) if path.is_file() else []


def read_file(path: Path) -> list[HistoryEntry]:
    """A history file, oldest first.

    Lines that are no entry (cut off by a full disk, another version's) are left out: the history
    is a convenience, and must not keep a run from ending.
    """
    found = []
    try:
        text = foreign.read_bytes(path).decode("utf-8", errors="replace")
    except OSError as error:
        raise UsageProblem(f"The history {path} cannot be read: {error.strerror}.") from error
    for line in text.splitlines():
        try:
            entry = HistoryEntry.model_validate(foreign.loads(line))
        except ValueError:
            continue
        rate, ratio = entry.error_rate_percent, entry.budget_ratio
        beyond = (rate is not None and not rate < ERROR_RATE_LIMIT_PERCENT) or (
            ratio is not None and not ratio <= EXACT_LIMIT
        )
        # A pass that its own numbers contradict; what older rules made of them is theirs.
        if not (beyond and entry.status.is_pass and entry.rules == RULES):
            found.append(entry)
    return sorted(found, key=lambda entry: entry.time)


def of_run(directory: Path, run: Run) -> list[HistoryEntry]:
    """The history of the cases of a run."""
    if run.run is None:
        return []
    wanted = set(run.run.cases)
    kind = run.run.device_kind
    return [entry for entry in read(directory, kind) if entry.case_id in wanted]


def version_sets(found: Sequence[HistoryEntry]) -> list[dict[str, str]]:
    """The different sets of versions, in the order in which they first ran."""
    sets: list[dict[str, str]] = []
    for entry in found:
        if entry.versions not in sets:
            sets.append(entry.versions)
    return sets


def _entry(run: Run, case: CaseRecord) -> HistoryEntry:
    assert run.run is not None
    leg = case.candidate
    known = dict(run.run.environment)
    if leg is not None and "cann" in leg.device.details:
        known["cann"] = leg.device.details["cann"]
    timed = leg is not None and bool(leg.timing.forward_seconds) and not case.emulated
    return HistoryEntry(
        time=run.run.started,
        run_id=run.run.run_id,
        case_id=case.case_id,
        device=leg.device.name if leg is not None else run.run.device,
        emulated=case.emulated,
        versions={name: known[name] for name in VERSIONS if name in known},
        status=case.status,
        rules=case.rules,
        budget_ratio=case.budget_ratio,
        error_rate_percent=case.gate.error_rate_percent if case.gate else None,
        images_per_second=leg.timing.images_per_second if leg is not None and timed else None,
        speed_ratio=case.speed_ratio,
        seconds=case.duration_seconds,
    )
