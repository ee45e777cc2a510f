"""Records: everything measured, as versioned JSON lines.  The source of truth of every report.

A results file holds one `run` line, a `start` line for each case as it begins and a `case` line as
it ends, and one `end` line.  A line is appended with a single write and flushed to disk, so that a
run killed at any moment loses at most the case in flight, which its `start` line names.
Non-finite numbers are the strings "NaN", "Infinity" and "-Infinity".
"""

from __future__ import annotations

import datetime
import errno
import itertools
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import pydantic
import pydantic_core

from harness.records import attempts, consistency, version_1
from harness.records.lines import (
    ADAPTER,
    SCHEMA_VERSION,
    AnyRecord,
    CaseRecord,
    EndRecord,
    RunRecord,
    StartRecord,
)
from harness.system import files, foreign
from harness.system.status import UsageProblem

# Tensors of one operator's call: the greatest that a reproducer writes are far below.
FILE_BYTES = 1 << 30
# A line holds one case with all its operators; the longest of a thousand models has 3 MB.
LINE_BYTES = 256 << 20


def append(path: Path, record: AnyRecord) -> None:
    """Append a record as `append_line` does."""
    append_line(path, _line(record))


def append_line(path: Path, line: bytes) -> None:
    """Append one line with one write and force it to disk.

    Several processes may append to the same file: O_APPEND keeps their lines whole.  Raises
    UsageProblem when the disk is full, or the file cannot be written any more.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            if files.ends_torn(path):
                line = b"\n" + line
            if os.write(descriptor, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UsageProblem(
            f"The records cannot be written to {path} any more ({error.strerror}): make room, or "
            "give another --results DIR; --resume goes on with what was recorded."
        ) from error


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

    Of several records of a case the one that stands is given (`attempts.stands`).

    Raises UsageProblem when the file is missing, has another schema version, is no such file, or
    holds a record that contradicts itself.
    """
    if not os.path.isfile(path):
        raise UsageProblem(f"No results file {path}: run pytest first, or give another path.")
    run: RunRecord | None = None
    end: EndRecord | None = None
    cases: dict[str, CaseRecord] = {}
    started: list[str] = []
    torn = 0
    for number, text in _lines(path):
        try:
            raw = foreign.loads(text)
        except foreign.TooDeep as error:
            raise UsageProblem(f"{path}, line {number}: no record: {error}.") from None
        except ValueError:
            torn += 1
            continue
        record = _parse(raw, path, number)
        if isinstance(record, RunRecord):
            contradiction = consistency.of_run(record)
        elif isinstance(record, CaseRecord):
            contradiction = consistency.of_case(record, run)
        else:
            contradiction = ""
        if contradiction:
            raise UsageProblem(
                f"{path}, line {number}: the record contradicts itself: {contradiction}. It was "
                "changed, or not written by this harness."
            )
        if isinstance(record, RunRecord):
            run = record
        elif isinstance(record, EndRecord):
            end = record
        elif isinstance(record, StartRecord):
            started.append(record.case_id)
        else:
            before = cases.get(record.case_id)
            cases[record.case_id] = attempts.stands(before, record) if before else record
    if run is None and not cases:
        raise UsageProblem(f"{path} holds no record of a run: is it a results.jsonl file?")
    return Run(run=run, cases=list(cases.values()), end=end, torn_lines=torn, started=started)


def write(run: Run, path: Path) -> None:
    """Write a whole run as a results file, in place of what is there."""
    lines = [record for record in (run.run, *run.cases, run.end) if record is not None]
    path.write_bytes(b"".join(map(_line, lines)))


def read_run(path: Path | str) -> Run:
    """Read a results file, or the one in a folder.  Raises UsageProblem as `read` does."""
    return read(results_file(Path(path)))


def results_file(path: Path) -> Path:
    """The results file, where a folder may have been given instead."""
    return path / "results.jsonl" if os.path.isdir(path) else path


def folder(path: Path) -> Path:
    """Where the records of `read_run` and what belongs to them lie."""
    return path if os.path.isdir(path) else path.parent


def start(results_dir: Path, record: RunRecord, kept: Iterable[AnyRecord] = ()) -> Path:
    """Begin results_dir/results.jsonl; an earlier one moves to results_dir/previous/, never lost.

    `kept`: records to begin with.  At every moment the file is wholly the old one or the new one.
    Raises UsageProblem when the directory cannot be written.
    """
    path = results_dir / "results.jsonl"
    try:
        with files.replacing(path) as temporary:
            with temporary.open("wb") as stream:
                stream.writelines(_line(item) for item in (record, *kept))
                stream.flush()
                os.fsync(stream.fileno())
            if path.exists():
                set_aside(path)
    except OSError as error:
        raise UsageProblem(
            f"Cannot write results to {results_dir} ({error.strerror}): give --results DIR."
        ) from error
    return path


def own(results_dir: Path) -> filelock.BaseFileLock:
    """Hold the folder of a run's records until `release`, or the end of this process.

    Raises UsageProblem when another run holds it.  A disk without locks holds nobody off.
    """
    lock = filelock.FileLock(results_dir / ".results.lock")
    try:
        results_dir.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UsageProblem(
            f"Another run is writing its records to {results_dir}: wait for it, or give another "
            "--results DIR."
        ) from None
    except (OSError, NotImplementedError):
        pass  # `start` says what cannot be written
    return lock


def set_aside(path: Path) -> None:
    """Keep a results file under previous/ as well; it stays where it is until it is replaced.

    Raises OSError.
    """
    previous = path.parent / "previous"
    previous.mkdir(exist_ok=True)
    stamp = datetime.datetime.fromtimestamp(path.stat().st_mtime).strftime("%Y%m%d-%H%M%S")
    serial = 0
    while (target := previous / f"{path.stem}-{stamp}-{serial:03}.jsonl").exists():
        serial += 1
    try:
        target.hardlink_to(path)
    except OSError:  # the file system has no links
        shutil.copy2(path, target)


def carry(case: CaseRecord, old_dir: Path, new_dir: Path) -> None:
    """Copy the files that a record names, relative to its results, beside other results.

    Raises UsageProblem for a name that leads out of the results, or through a link.
    """
    if old_dir.resolve() == new_dir.resolve():
        return
    try:
        found = {name: foreign.read_below(old_dir, name, FILE_BYTES) for name in case.files}
        keep(case, {name: data for name, data in found.items() if data is not None}, new_dir)
    except OSError as error:
        raise UsageProblem(
            f"A file that the record of {case.case_id} names in {old_dir} cannot be carried to "
            f"{new_dir}: {error.filename}: {error.strerror}."
        ) from error


def keep(case: CaseRecord, found: Mapping[str, bytes], directory: Path) -> None:
    """Write files that a record names below `directory`; others are refused.

    Raises UsageProblem for a file that it does not name, and OSError.
    """
    if strange := sorted(set(found) - set(case.files)):
        raise UsageProblem(f"{case.case_id} came with a file it does not name: {strange[0]!r}.")
    for name, content in found.items():
        foreign.write_below(directory, name, content)


def _line(record: AnyRecord) -> bytes:
    try:
        text = record.model_dump_json()
    except pydantic_core.PydanticSerializationError:
        # A name from the file system that is no UTF-8: escaped here, where it leaves.
        text = json.dumps(_escaped(record.model_dump(mode="json")), ensure_ascii=False)
    return text.encode() + b"\n"


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return files.as_text(value)
    if isinstance(value, dict):
        return {_escaped(key): _escaped(one) for key, one in value.items()}
    return [_escaped(one) for one in value] if isinstance(value, list) else value


def _parse(raw: Any, path: Path, number: int) -> AnyRecord:
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version == 1:
        raw = version_1.upgraded(raw)
    elif version != SCHEMA_VERSION:
        raise UsageProblem(
            f"{path}, line {number}: schema version {version!r}, this harness reads 1 and "
            f"{SCHEMA_VERSION}."
        )
    try:
        return ADAPTER.validate_python(raw, strict=False)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageProblem(f"{path}, line {number}: {where}: {first['msg']}.") from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with foreign.open_regular(path) as stream:
        for number in itertools.count(1):
            line = stream.readline(LINE_BYTES + 1)
            if not line:
                return
            if len(line) > LINE_BYTES:
                raise UsageProblem(f"{path}, line {number}: more than {LINE_BYTES} bytes.")
            if line.strip():
                yield number, line.decode("utf-8", errors="replace")
