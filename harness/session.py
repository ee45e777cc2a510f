"""One run: its cases, its device, its results file and its exit code.  No pytest here."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from harness import devices, emulate, environment, records, store
from harness.records import EndRecord, Run, RunRecord
from harness.reference_cache import DEFAULT_SIZE
from harness.status import ExitCode, UsageProblem
from harness.workers import DeviceWorker

if TYPE_CHECKING:
    from harness.runner import CaseRunner


@dataclasses.dataclass(frozen=True)
class SessionOptions:
    """What the command line says about a run."""

    device: str = "auto"
    results_dir: Path = Path("reports")
    cache_dir: Path = dataclasses.field(default_factory=store.default_cache_dir)
    case_timeout: float = 600.0
    repeat: int = 2
    allow_cpu_fallback: bool = False
    fault_plan: Path | None = None
    operator_share: float | None = None
    sensitivity: bool = False
    localize: str = "auto"
    reference_cache: Path | None = None
    reference_cache_size: int = DEFAULT_SIZE


class Session:
    """Holds what lives as long as a run."""

    def __init__(self, options: SessionOptions) -> None:
        """Settle the device.  Raises UsageProblem, with the remedy, when it is not there."""
        self.options = options
        self.choice = devices.choose(options.device)
        self.results = options.results_dir / "results.jsonl"
        self.started = False
        self._worker = DeviceWorker(self.choice.spec)
        self._runner: CaseRunner | None = None
        self._fault_plan = self._read_fault_plan()

    def begin(self, cases: Iterable[str]) -> None:
        """Open the results file with the run's own line; done once, by the controlling process."""
        spec = self.choice.spec
        record = RunRecord(
            run_id=uuid.uuid4().hex[:12],
            started=datetime.datetime.now(datetime.timezone.utc),
            device=str(spec),
            device_reason=self.choice.reason,
            emulated=spec.emulated,
            cases=list(cases),
            environment=environment.capture(),
        )
        records.start(self.options.results_dir, record)
        self.started = True

    def warm_up(self) -> None:
        """Start the device's process: it loads while this one loads torch and the first case."""
        self._worker.start()

    @property
    def runner(self) -> CaseRunner:
        """The runner, made on first use."""
        if self._runner is None:
            from harness.runner import CaseRunner, RunnerOptions  # brings torch in

            self._runner = CaseRunner(
                RunnerOptions(
                    device=self.choice.spec,
                    cache_dir=self.options.cache_dir,
                    results=self.results,
                    case_timeout=self.options.case_timeout,
                    repeat=self.options.repeat,
                    allow_cpu_fallback=self.options.allow_cpu_fallback,
                    fault_plan=self._fault_plan,
                    operator_share=self.options.operator_share,
                    sensitivity=self.options.sensitivity,
                    localize=self.options.localize,
                    reference_cache=self.options.reference_cache,
                    reference_cache_size=self.options.reference_cache_size,
                ),
                self._worker,
            )
        return self._runner

    def close(self) -> None:
        """End the device's process."""
        if self._runner is not None:
            self._runner.close()
        self._worker.stop()

    def end(self, exit_code: int) -> None:
        """Write the last line of the results file."""
        now = datetime.datetime.now(datetime.timezone.utc)
        records.append(self.results, EndRecord(exit_code=exit_code, finished=now))

    def _read_fault_plan(self) -> str | None:
        path = self.options.fault_plan
        if path is None:
            return None
        if not self.choice.spec.emulated:
            raise UsageProblem(
                f"--fault-plan works on the emulated NPU only, not on {self.choice.spec}: add "
                "--device npu-emulated."
            )
        return emulate.read_fault_plan(path)


def exit_code(run: Run, *, other_failures: int = 0) -> ExitCode:
    """The exit code that records call for (design: 1 before 12 before 10 before 0).

    `other_failures`: failures outside the cases, such as a broken test.
    """
    if other_failures or any(not _infrastructure_or_fine(case) for case in run.cases):
        return ExitCode.FAILED
    if run.missing:
        return ExitCode.INCOMPLETE
    if any(case.status.is_error for case in run.cases):
        return ExitCode.INFRASTRUCTURE
    return ExitCode.OK


def _infrastructure_or_fine(case: records.CaseRecord) -> bool:
    return case.status.is_error or case.status.is_pass
