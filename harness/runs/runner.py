"""The way of one case: sources -> legs -> comparison -> verdict -> record, written at once."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import traceback
from pathlib import Path
from typing import Any

from harness.cases import inputs
from harness.cases.case import Case, InputSource, ModelSource
from harness.cases.models import loading
from harness.detection import sensitivity
from harness.devices.fault_plan import plan_for
from harness.devices.spec import DeviceSpec
from harness.execution import throughput
from harness.execution.legs import LegRequest, LegResult
from harness.execution.localize import LocalizeRequest
from harness.execution.reference.cache import ReferenceCache
from harness.execution.reference.cpu_side import CpuSide
from harness.execution.worker import DeviceWorker
from harness.judgement import arithmetic, localization, verdict
from harness.judgement.localization import Localization
from harness.judgement.verdict import Evidence, Verdict
from harness.records import results_file
from harness.records.lines import CaseRecord, StartRecord
from harness.records.sensitivity import Sensitivity
from harness.records.throughput import Plan, Throughput
from harness.system import process
from harness.system.status import CaseProblem, Finding, Stage, Status, UsageProblem
from harness.upgrade.expected import Expected

# End to end, the noise of a short format hides a dead channel or 1 % noise in one layer.
OPERATOR_SHARE = 0.2
# Runs of every operator in a case that gives different results for the same input: a fault that
# comes half of the time shows with a probability of 1 - 2^-9.
FLAKY_REPEATS = 10


@dataclasses.dataclass(frozen=True)
class RunnerOptions:
    """How cases are run."""

    device: DeviceSpec
    cache_dir: Path
    results: Path | None  # results.jsonl to append to
    case_timeout: float = 600.0  # seconds
    repeat: int = 2
    allow_cpu_fallback: bool = False
    fault_plan: str | None = None
    # Part of the operators to compare one by one; None: OPERATOR_SHARE in float16 and bfloat16.
    operator_share: float | None = None
    sensitivity: bool = False  # measure what faults each case would have shown
    localize: str = "auto"  # "auto" (when a case does not pass), "always" or "never"
    reference_cache: Path | None = None  # for CPU legs and inputs; None: cache_dir
    reference_cache_size: int = 0  # bytes; 0: CPU legs are computed in every run
    expected: Expected | None = None  # rows that each record is compared with
    throughput: Plan | None = None  # what to measure of it, after the verdict


class CaseRunner:
    """Runs cases against one device and records each as it ends."""

    def __init__(self, options: RunnerOptions, worker: DeviceWorker | None = None) -> None:
        """`worker`: the device's process, where it was started already."""
        self.options = options
        self.worker = worker or DeviceWorker(options.device)
        # A process of its own for timing the CPU; started when it is asked.
        self.cpu_worker = DeviceWorker(DeviceSpec("cpu"))
        self.cache = ReferenceCache(
            options.reference_cache or options.cache_dir, options.reference_cache_size
        )
        self.cpu = CpuSide(self.cache if self.cache.size else None, self.worker.settle)
        self._data_configs: dict[ModelSource, dict[str, Any]] = {}

    def run(self, case: Case) -> CaseRecord:
        """Run one case and append its record; whatever goes wrong becomes its status.

        Raises UsageProblem only when the device itself is not there.
        """
        started = time.perf_counter()
        progress = _Progress(case, self.options.device.emulated)
        if self.options.results is not None:
            begun = StartRecord(case_id=case.id, device=str(self.options.device))
            results_file.append(self.options.results, begun)
        try:
            self._measure(case, progress)
        except CaseProblem as problem:
            progress.problem = problem
        except UsageProblem:
            raise
        except Exception as error:
            # A fault of ours must not take the other cases with it.
            progress.problem = CaseProblem(
                Status.ERROR_HARNESS,
                Stage.COMPARE,
                f"The harness itself failed: {type(error).__name__}: {error}. Please report it.",
            )
            progress.log_tail = traceback.format_exc()
        record = progress.record(time.perf_counter() - started)
        if self.options.expected is not None:
            record = self.options.expected.beside(record)
        self._append(record)
        plan = self.options.throughput
        if plan is not None and case.throughput is not None:
            plan = dataclasses.replace(plan, batches=case.throughput)
        if plan is not None and plan.batches:
            # The verdict is on disk by now: what happens here cannot take it away.
            found = self._throughput(plan, case, progress)
            record = record.model_copy(update={"throughput": found})
            self._append(record)
        process.release()
        return record

    def close(self) -> None:
        """End the device's process."""
        self.worker.stop()
        self.cpu_worker.stop()
        self.cache.close()

    def request(self, case: Case) -> LegRequest:
        """Prepare a case's model and images.  Raises CaseProblem (fail_load)."""
        model_dir = loading.materialise(case.model, self.options.cache_dir)
        data_config = self._data_config(case.model, model_dir)
        input_set = self._inputs(case.inputs, data_config)
        return LegRequest(
            model_dir=model_dir,
            num_classes=loading.classes_to_load(case.model),
            allow_keys=case.model.allow_keys,
            allow_pickle=case.model.allow_pickle,
            inputs=input_set,
            dtype=case.dtype,
            batch_size=case.batch_size,
            numerics=case.numerics,
            repeat=self.options.repeat,
            batch_checks=True,
            fault_plan=plan_for(self.options.fault_plan, case.id)
            if self.options.fault_plan
            else None,
            operator_share=self._operator_share(case),
        )

    def judge(self, request: LegRequest, candidate: LegResult) -> Verdict:
        """Judge what a device gave for `request` against the CPU side, which is kept.

        Every verdict of the harness comes from here, so that what measures its power to detect
        faults measures the verdict itself.  Raises CaseProblem (fail_load, fail_reference).
        """
        reference = self.cpu.reference(request)
        if candidate.record.weights_sha256 != reference.record.weights_sha256:
            raise CaseProblem(
                Status.FAIL_LOAD,
                Stage.COMPARE,
                "The two sides loaded different weights (their hashes differ): the files changed "
                "during the run.",
            )
        declared = arithmetic.declared(request.dtype, candidate.record.numerics)
        judged = verdict.judge(
            Evidence(
                reference=reference.outputs,
                candidate=candidate.outputs,
                logits=reference.logits,
                labels=request.inputs.labels,
                oracle=self.cpu.oracle(request, declared.gelu),
                as_asked=self.cpu.oracle(request) if declared.gelu else None,
                budget=self.cpu.budget(request, declared),
                variants=candidate.variants,
                operators=candidate.operators,
            )
        )
        return dataclasses.replace(
            judged,
            findings=(*self._leg_findings(reference, candidate), *judged.findings),
            notes=(*_idle_faults(request, candidate), *judged.notes),
        )

    def _append(self, record: CaseRecord) -> None:
        if self.options.results is not None:
            results_file.append(self.options.results, record)

    def _measure(self, case: Case, progress: _Progress) -> None:
        self.worker.start()  # it loads torch_npu while the CPU side works
        request = self.request(case)
        progress.inputs = request.inputs
        if self.worker.starting:
            # Not timed, so that it may share the host with that; what is wrong comes up again.
            with contextlib.suppress(CaseProblem):
                self.cpu.oracle(request)
        progress.reference = self.cpu.reference(request)
        progress.candidate = candidate = self.worker.run(request, self.options.case_timeout)
        progress.verdict = self.judge(request, candidate)
        if self._wants_localization(progress.verdict):
            progress.localization = self._localize(request, candidate, progress)
        if self.options.sensitivity:
            progress.sensitivity = sensitivity.measure(self, case)

    def _wants_localization(self, judged: Verdict) -> bool:
        mode = self.options.localize
        return mode == "always" or (mode == "auto" and judged.status is not Status.PASS)

    def _localize(
        self, request: LegRequest, candidate: LegResult, progress: _Progress
    ) -> Localization:
        """Find the operator that goes wrong; what prevents that takes nothing from the case."""
        assert progress.verdict is not None
        start, stop = localization.worst_batch(
            progress.verdict.budgets, len(request.inputs.labels), request.batch_size
        )
        where = Path("reproducers", progress.case.id)  # below the results
        results = self.options.results
        try:
            found = self.worker.localize(
                LocalizeRequest(
                    request,
                    start,
                    stop,
                    candidate.record.numerics,
                    repeats=FLAKY_REPEATS if candidate.unstable else 1,
                    directory=results.parent / where if results else None,
                ),
                self.options.case_timeout,
            )
        except CaseProblem as problem:
            return Localization(problem=f"{problem.status.value}: {problem.reason}")
        return dataclasses.replace(
            found.localization,
            reproducers=tuple((where / name).as_posix() for name in found.localization.reproducers),
            reproduced=localization.reproduced(
                found.outputs,
                {name: array[start:stop] for name, array in candidate.outputs.items()},
                progress.verdict.budgets,
            ),
        )

    def _throughput(self, plan: Plan, case: Case, progress: _Progress) -> Throughput:
        """Time both sides; whatever goes wrong is said there and nowhere else."""
        if progress.candidate is None:
            why = progress.problem.status.value if progress.problem else "without a result"
            return Throughput(plan, problem=f"Not measured: the case ended as {why}.")
        try:
            return throughput.measure(
                plan, self.request(case), self.cpu_worker, self.worker, self.options.case_timeout
            )
        except Exception as error:
            return Throughput(plan, problem=f"Not measured: {type(error).__name__}: {error}")

    def _operator_share(self, case: Case) -> float:
        if self.options.operator_share is not None:
            return self.options.operator_share
        return 0.0 if case.dtype == "float32" else OPERATOR_SHARE

    def _data_config(self, source: ModelSource, model_dir: Path) -> dict[str, Any]:
        """The model's preprocessing; loading the model for it also checks its weights."""
        if source not in self._data_configs:
            self._data_configs[source] = self.cpu.data_config(
                model_dir,
                loading.classes_to_load(source),
                source.allow_keys,
                source.allow_pickle,
            )
        return self._data_configs[source]

    def _inputs(self, source: InputSource, data_config: dict[str, Any]) -> inputs.InputSet:
        try:
            return self.cache.prepare_inputs(source, data_config)
        except UsageProblem as problem:
            # Images named in a case file: the other cases still run.
            raise CaseProblem(Status.FAIL_LOAD, Stage.LOAD, str(problem)) from problem

    def _leg_findings(self, reference: LegResult, candidate: LegResult) -> list[Finding]:
        found = []
        if reference.unstable:
            found.append(
                Finding(
                    Status.FAIL_REFERENCE,
                    Stage.REFERENCE,
                    f"The CPU gives different values for {', '.join(reference.unstable)} when the "
                    "same forward is repeated: it cannot serve as a reference.",
                )
            )
        if candidate.unstable:
            found.append(
                Finding(
                    Status.FLAKY,
                    Stage.FORWARD,
                    f"The device gives different values for {', '.join(candidate.unstable)} when "
                    "the same forward is repeated on the same input.",
                )
            )
        fallback = candidate.record.fallback_operators
        if fallback and not self.options.allow_cpu_fallback:
            found.append(
                Finding(
                    Status.FAIL_FALLBACK,
                    Stage.FORWARD,
                    f"Ran on the CPU instead of {self.options.device}: {', '.join(fallback)}. "
                    "The comparison says nothing about them (--allow-cpu-fallback accepts it).",
                )
            )
        return found


def _idle_faults(request: LegRequest, candidate: LegResult) -> list[str]:
    """A planned fault that never acted: the case says nothing about it."""
    if request.fault_plan is None:
        return []
    return [
        f"Fault {number} of the fault plan never acted: the model makes no such call."
        for number, effects in enumerate(candidate.counters.fault_effects, start=1)
        if not effects
    ]


@dataclasses.dataclass
class _Progress:
    """What is known of a case so far: all of it goes into the record, however the case ends."""

    case: Case
    emulated: bool
    inputs: inputs.InputSet | None = None
    reference: LegResult | None = None
    candidate: LegResult | None = None
    verdict: Verdict | None = None
    sensitivity: Sensitivity | None = None
    localization: Localization | None = None
    problem: CaseProblem | None = None
    log_tail: str = ""

    def record(self, seconds: float) -> CaseRecord:
        """Make the record."""
        findings = list(self.verdict.findings) if self.verdict else []
        if self.problem is not None:
            findings.append(Finding(self.problem.status, self.problem.stage, self.problem.reason))
        judged = Verdict(tuple(findings))
        leading = judged.leading
        reference = self.reference
        return CaseRecord(
            case_id=self.case.id,
            case=self.case,
            status=judged.status,
            stage=leading.stage if leading else None,
            reason=leading.reason if leading else "",
            findings=[f"{f.status.value}: {f.reason}" for f in findings],
            emulated=self.emulated,
            weights=reference.weights if reference else "",
            weights_sha256=reference.record.weights_sha256 if reference else "",
            inputs=self.inputs.description if self.inputs else "",
            inputs_sha256=self.inputs.sha256 if self.inputs else "",
            labels=list(self.inputs.labels) if self.inputs else [],
            reference=reference.record if reference else None,
            candidate=self.candidate.record if self.candidate else None,
            gate=self.verdict.gate if self.verdict else None,
            outputs=list(self.verdict.outputs) if self.verdict else [],
            discrimination=self.verdict.discrimination if self.verdict else None,
            arithmetic=self.verdict.arithmetic if self.verdict else "",
            budgets=list(self.verdict.budgets) if self.verdict else [],
            operators=self.candidate.operators if self.candidate else None,
            localization=self.localization,
            notes=list(self.verdict.notes) if self.verdict else [],
            sensitivity=self.sensitivity,
            duration_seconds=seconds,
            log_tail=self.log_tail or getattr(self.problem, "log_tail", ""),
        )
