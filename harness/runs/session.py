"""One run: its cases, its device, its results file and its exit code.  No pytest here."""

from __future__ import annotations

import dataclasses
import datetime
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from harness.cases.case import Case
from harness.devices.choice import Choice
from harness.execution.settings import RunSettings
from harness.records import fingerprint_changes, results_file, signed
from harness.records.expectation import Outcome
from harness.records.fingerprint import Fingerprint
from harness.records.lines import CaseRecord, EndRecord, RunRecord, ShardInfo, StartRecord
from harness.records.results_file import Run
from harness.runs import resume
from harness.runs.resume import Resumed
from harness.system import environment, shown
from harness.system.status import ExitCode, Status, UsageProblem, worst_exit_code
from harness.upgrade import compare, expected_of_run, history
from harness.upgrade.compare import RunComparison
from harness.upgrade.conditions import Term
from harness.upgrade.expected_of_run import ExpectedOptions

if TYPE_CHECKING:
    from harness.runs.runner import CaseRunner


@dataclasses.dataclass(frozen=True)
class SessionOptions:
    """What belongs to a run beside the way its cases are run.

    `reason`: why this device.  `environment`: of the device's host, where that is another.
    `compare`: an older run to compare with; `fail_on`: conditions that fail that comparison;
    `arithmetic`: the device's, as measured before.
    """

    reason: str = ""
    results_dir: Path = Path("reports")
    expected: ExpectedOptions | None = None
    compare: Run | None = None
    fail_on: tuple[Term, ...] = ()
    environment: Mapping[str, str] | None = None
    arithmetic: Fingerprint | None = None
    key: bytes | None = None  # to sign the results with


class Session:
    """Holds what lives as long as a run."""

    def __init__(self, settings: RunSettings, options: SessionOptions) -> None:
        """Raises UsageProblem for expected rows that cannot be read, and another user's cache."""
        settings.check_folders()
        self.settings = settings
        self.options = options
        self.choice = Choice(settings.device, options.reason, settings.emulated_kernels)
        self.results = options.results_dir / "results.jsonl"
        self.history = options.results_dir / "history"
        self.started = False
        self.began = 0.0  # on time.monotonic's clock
        self.cases: frozenset[str] = frozenset()  # ids, those that an earlier run settled as well
        self.to_run = 0  # cases
        self._own: filelock.BaseFileLock | None = None
        self._runner: CaseRunner | None = None
        self._kept: Mapping[str, CaseRecord] = {}
        self._in_history: frozenset[str] = frozenset()
        self.expected = expected_of_run.choose(
            options.expected, settings.device, settings.emulated_kernels
        )
        self.comparison: RunComparison | None = None

    def begin(
        self,
        cases: Sequence[Case],
        shard: ShardInfo | None = None,
        resumed: Resumed | None = None,
    ) -> None:
        """Open the results file with the run's own line; done once, by the controlling process.

        `cases`: all that the file is to hold; `resumed`: an earlier run, whose verdicts it holds
        from the start.  Raises UsageProblem when that run is another than this one, another run
        writes to the folder, the file cannot be written, or models cannot be kept.
        """
        if any(case.model.kind != "directory" for case in cases):
            self.settings.check_cache()
        spec = self.settings.device
        settings = self.settings.recorded()
        found = dict(self.options.environment or environment.capture())
        if resumed is not None:
            resume.check(resumed, cases, shard, settings, spec.kind, found)
            if not resumed.run.missing:  # only complete runs have a history
                self._in_history = frozenset(resumed.kept)
            self._kept = {key: self._expect(case) for key, case in resumed.kept.items()}
        if self.options.arithmetic is not None:
            fingerprint_changes.check_same_stack(self.options.arithmetic, spec.kind, found)
        record = RunRecord(
            run_id=uuid.uuid4().hex[:12],
            started=datetime.datetime.now(datetime.timezone.utc),
            device=str(spec),
            device_reason=self.options.reason,
            emulated=spec.emulated,
            cases=[case.id for case in cases],
            environment=found,
            fingerprints={case.id: case.fingerprint for case in cases},
            settings=settings,
            shard=shard,
            parts=resumed.parts if resumed is not None else [],
            arithmetic=self.options.arithmetic,
        )
        self._own = results_file.own(self.options.results_dir)
        results_file.start(self.options.results_dir, record, self._kept.values())
        for case in self._kept.values():
            assert resumed is not None
            results_file.carry(case, resumed.directory, self.options.results_dir)
        self.cases = frozenset(record.cases)
        self.to_run = len(cases) - len(self._kept)
        self.began = time.monotonic()
        self.started = True

    def record_crash(self, case: Case) -> None:
        """Record a case whose own process died, unless it had come to its record."""
        self._record_lost(
            case,
            Status.ERROR_CRASH,
            "The worker of pytest-xdist that ran and judged this case died (killed, or out of "
            "memory): see what it printed, or run the case alone.",
        )

    def record_ended(self, case: Case, why: str) -> CaseRecord:
        """Record a case whose test another plugin ended, unless it had come to its record.

        Returns the record that stands.
        """
        return self._record_lost(
            case,
            Status.ERROR_TIMEOUT,
            f"Another pytest plugin ended this case's test: {why}. The harness' own limit is "
            "--case-timeout.",
        )

    def _record_lost(self, case: Case, status: Status, reason: str) -> CaseRecord:
        for record in results_file.read(self.results).cases:
            if record.case_id == case.id:
                return record
        lost = CaseRecord(
            case_id=case.id,
            case=case,
            status=status,
            emulated=self.settings.device.emulated,
            reason=shown.line(reason),
        )
        lost = self._expect(lost)
        results_file.append(self.results, lost)
        return lost

    def warm_up(self) -> None:
        """Start the processes of both sides: they load while this one comes to the first case."""
        self.runner.sides.start()

    @property
    def runner(self) -> CaseRunner:
        """The runner, made on first use."""
        if self._runner is None:
            from harness.execution.sides import Sides
            from harness.runs.runner import CaseRunner

            self._runner = CaseRunner(Sides(self.settings), self.results, self._expect)
        return self._runner

    def runner_apart(self, directory: Path | None) -> CaseRunner:
        """A runner of modules that no case file names; `add` takes its records.

        `directory`: where their reproducers go; None for nowhere.
        """
        from harness.runs.runner import CaseRunner

        return CaseRunner(self.runner.sides, None, self._expect, directory)

    def add(self, record: CaseRecord) -> None:
        """Append the record of a module that no case file names."""
        results_file.append(self.results, record)
        self.cases |= {record.case_id}

    def record_start(self, case_id: str, device: str) -> None:
        """Record that another host began a case."""
        results_file.append(self.results, StartRecord(case_id=case_id, device=device))

    def record_end(self, case: CaseRecord, files: Mapping[str, bytes]) -> CaseRecord:
        """Record a case that another host ran, and the files that it names; returns the record.

        Raises UsageProblem for a record or a file that is none the harness would write.
        """
        # Validated: what comes over the network was made by another process.
        try:
            case = CaseRecord.model_validate_json(case.model_dump_json())
            results_file.keep(case, files, self.options.results_dir)
        except (ValueError, OSError) as error:
            raise UsageProblem(f"What another host sent of {case.case_id}: {error}.") from error
        found = self._expect(case)
        results_file.append(self.results, found)
        return found

    def close(self) -> None:
        """End the processes of both sides."""
        if self._runner is not None:
            self._runner.close()

    def settle(self, tests_failed: int, cases_failed: Mapping[str, int]) -> ExitCode:
        """Settle the exit code from the records; write the rows asked for and the history.

        `tests_failed`: how many tests failed, the cases' own among them; `cases_failed`: how often
        each case's did, by id.  Raises UsageProblem when expected results cannot be written, or no
        case compared with the older run.
        """
        run = results_file.read(self.results)
        if self.expected is not None:
            expected_of_run.write(self.expected, run.cases)
        # A case without a record is one whose process died: its test failed for that.
        said = {case.case_id for case in run.cases if fails(case)} | set(run.missing)
        judged = sum(count for case_id, count in cases_failed.items() if case_id in said)
        codes = [exit_code(run, other_failures=tests_failed - judged)]
        if self.options.compare is not None:
            self.comparison = compare.compare(self.options.compare, run, self.options.fail_on)
            codes.append(self.comparison.code)
        if not run.missing and self.settings.shows_the_stack:
            new = [case for case in run.cases if case.case_id not in self._in_history]
            history.append(self.history, run.model_copy(update={"cases": new}))
        return worst_exit_code(codes)

    def end(self, exit_code: int) -> None:
        """Write the last line of the results file."""
        now = datetime.datetime.now(datetime.timezone.utc)
        results_file.append(self.results, EndRecord(exit_code=exit_code, finished=now))
        if self.options.key is not None:
            signed.sign(self.results, self.options.key)
        if self._own is not None:
            self._own.release()

    def _expect(self, record: CaseRecord) -> CaseRecord:
        """The record beside its expected row, where this run has rows."""
        rows = self.expected.expected if self.expected else None
        return rows.beside(record) if rows else record.model_copy(update={"expected": None})


def exit_code(run: Run, *, other_failures: int = 0, ended: bool = True) -> ExitCode:
    """The exit code that records call for (design: 1 before 12 before 10 before 11 before 0).

    `other_failures`: failures outside the cases, such as a broken test.  `ended`: whether the run
    came to its end; one that was cut short is incomplete even when every case has a record.
    """
    found = {case_exit_code(case) for case in run.cases}
    if other_failures:
        found.add(ExitCode.FAILED)
    if run.missing or not ended:
        found.add(ExitCode.INCOMPLETE)
    return worst_exit_code(found)


def final_exit_code(run: Run) -> int:
    """The exit code of a run that is over, from its records; cut short, it is incomplete.

    What only pytest saw (an interrupt, a broken test) stands in the last line.
    """
    ended = run.end.exit_code if run.end is not None else None
    if ended is not None and 2 <= ended <= 4:
        return ended
    broken = int(ended == ExitCode.FAILED)
    return exit_code(run, other_failures=broken, ended=ended is not None)


def case_exit_code(case: CaseRecord) -> ExitCode:
    """The exit code that one case alone calls for."""
    if case.contested:
        return ExitCode.FAILED  # whatever its row expects: one of the two is wrong
    outcome = case.expected.outcome if case.expected is not None else None
    if outcome in (Outcome.SAME, Outcome.KNOWN):
        return ExitCode.OK
    if case.status.is_error:
        return ExitCode.INFRASTRUCTURE
    if outcome in (Outcome.IMPROVED, Outcome.UPDATED):
        return ExitCode.IMPROVED
    if outcome is Outcome.WORSE or not case.status.is_pass:
        return ExitCode.FAILED
    return ExitCode.IMPROVED if outcome is Outcome.NEW else ExitCode.OK


def fails(case: CaseRecord) -> bool:
    """Whether the test of a case fails; an updated case is skipped."""
    updated = case.expected is not None and case.expected.outcome is Outcome.UPDATED
    return case_exit_code(case) is not ExitCode.OK and not updated
