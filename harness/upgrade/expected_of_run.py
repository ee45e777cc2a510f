"""Which expected rows a run is held against, and the rows that it writes.

With `--expected DIR` every case of the run is.  Without it the cases of the repository's own case
files are, as soon as the repository has a file for the device kind and numerics profile: a case
that stands only on the command line (`--model DIR`, `--images`, another dtype) is judged alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.cases.case import NUMERICS, Case
from harness.devices import emulated_kernels
from harness.devices.spec import DeviceSpec
from harness.records.expectation import ExpectedRow, Outcome
from harness.records.lines import CaseRecord
from harness.system.status import UsageProblem
from harness.upgrade import expected_file
from harness.upgrade.expected import Expected, Update


@dataclasses.dataclass(frozen=True)
class ExpectedOptions:
    """What the command line says about expected results.

    `directory`: as given, None for the repository's (`default`).  `repository`: cases of the
    repository's case files, None when other case files were given.  `command`: how the run was
    started, for the sentence that says how to accept a change.
    """

    default: Path
    directory: Path | None = None
    repository: Sequence[Case] | None = None
    update: Update | None = None
    command: str = "pytest"


@dataclasses.dataclass(frozen=True)
class ExpectedChoice:
    """What a run is held against, and where it is written; `str` is the line for the header."""

    directory: Path
    device: DeviceSpec
    profiles: tuple[str, ...]  # those with a file
    expected: Expected | None
    kernels: str | None = None  # of an emulated device

    def __str__(self) -> str:
        place = self.directory / self.device.kind
        if self.expected is None:
            return f"none for {self.device.kind} in {self.directory}: each case is judged alone"
        files = ", ".join(f"{name}.toml" for name in self.profiles) or "no file yet"
        loosened = sum(row.is_loosened for row in self.expected.rows.values())
        known = sum(not row.status.is_pass for row in self.expected.rows.values())
        text = f"{place} ({files}: {len(self.expected.rows)} rows, {known} known failures, "
        text += f"{loosened} loosened)"
        if self.expected.update is not None:
            text += "; rows of what changed are rewritten, their cases skipped"
        return text + self.device.caveat


def choose(
    options: ExpectedOptions | None, device: DeviceSpec, kernels: str = emulated_kernels.DEFAULT
) -> ExpectedChoice | None:
    """Read the expected files of a device kind; None when nobody asked.

    `kernels`: of an emulated device; the repository's rows are of the default ones.  Raises
    UsageProblem for a bad file (with line and column) or a directory that is not there.
    """
    if options is None:
        return None
    update = options.update
    directory = options.directory or options.default
    if (
        options.directory is not None
        and not directory.is_dir()
        and (update is None or directory.exists())
    ):
        raise UsageProblem(
            f"--expected {directory} is no directory: give the one that holds "
            "<device kind>/<numerics profile>.toml, or add --update-expected to make it."
        )
    ids = None
    if options.directory is None and options.repository is not None:
        ids = {case.id for case in options.repository}
    named = kernels if device.emulated else None
    own = options.directory is not None or named in (None, emulated_kernels.DEFAULT)
    rows: dict[str, ExpectedRow] = {}
    profiles = []
    for numerics in NUMERICS:
        path = expected_file.path_of(directory, device.kind, numerics)
        if own and path.exists():
            rows.update(expected_file.read(path, device.kind, numerics, ids, named))
            profiles.append(numerics)
    expected: Expected | None = Expected(rows, None, options.command, update)
    if options.directory is None:
        asked = options.repository or ()
        only = {c.id: c for c in asked if update is not None or c.numerics in profiles}
        expected = Expected(rows, only, options.command, update) if only else None
    return ExpectedChoice(directory, device, tuple(profiles), expected, named)


def write(choice: ExpectedChoice, cases: Iterable[CaseRecord]) -> list[Path]:
    """Write the rows of all updated cases; returns the files written.

    Raises UsageProblem when a file cannot be written.
    """
    by_profile: dict[str, dict[str, ExpectedRow]] = {}
    for case in cases:
        beside = case.expected
        if beside is not None and beside.outcome is Outcome.UPDATED and not case.contested:
            assert beside.row is not None
            by_profile.setdefault(case.case.numerics, {})[case.case_id] = beside.row
    written = []
    for numerics, rows in by_profile.items():
        path = expected_file.path_of(choice.directory, choice.device.kind, numerics)
        expected_file.write(path, choice.device.kind, numerics, rows, choice.kernels)
        written.append(path)
    return written
