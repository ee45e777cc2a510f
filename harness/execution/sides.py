"""The two sides of a case: the device's process and the CPU, and the verdict on what they gave."""

from __future__ import annotations

import dataclasses
from typing import Any

from harness.cases import inputs
from harness.cases.case import Case, InputSource
from harness.cases.models.model_files import ModelFiles
from harness.devices.fault_plan import FaultPlan, plan_for
from harness.devices.spec import DeviceSpec
from harness.execution.legs import LegRequest, LegResult
from harness.execution.own_module import OwnModule
from harness.execution.reference.cache import ReferenceCache
from harness.execution.reference.cpu_side import CpuSide
from harness.execution.settings import RunSettings
from harness.execution.worker import Answer, DeviceWorker, Request
from harness.judgement import arithmetic, verdict
from harness.judgement.verdict import Evidence, Verdict
from harness.records.throughput import Throughput, ThroughputPlan
from harness.system import signing
from harness.system.status import CaseProblem, Finding, Stage, Status, UsageProblem

_FORM_REMEDY = "with TORCH_NPU_USE_COMPATIBLE_IMPL=1 torch_npu computes what is asked"


class Sides:
    """Runs both sides of cases against one device, and judges.

    `worker`: the device's process; `cpu`: the CPU's answers, in this process; `timeout`: seconds
    that the device has for one request.
    """

    def __init__(self, settings: RunSettings, worker: DeviceWorker | None = None) -> None:
        """`worker`: the device's process, where it was started already.

        Raises UsageProblem when others can write to the cache's folder, or the key is none.
        """
        settings.check_folders()
        self.settings = settings
        self.device = settings.device
        self.timeout = settings.case_timeout
        self.worker = worker or DeviceWorker(settings.device, settings.emulated_kernels)
        # A process of its own for timing the CPU; started when it is asked.
        self._cpu_worker = DeviceWorker(DeviceSpec("cpu"))
        self.cache = ReferenceCache(
            settings.reference_cache or settings.cache_dir,
            settings.reference_cache_size,
            signing.cache_key(settings.reference_cache_key),
        )
        self.cpu = CpuSide(self.cache if self.cache.size else None, self.worker.settle)
        self._data_configs: dict[ModelFiles, dict[str, Any]] = {}
        self._given: dict[Case, LegRequest] = {}

    def close(self) -> None:
        """End the processes."""
        self.worker.stop()
        self._cpu_worker.stop()
        self.cache.close()

    def request(self, case: Case) -> LegRequest:
        """Prepare a case's model and images.  Raises CaseProblem (fail_load)."""
        if case in self._given:
            return self._given[case]
        model = ModelFiles.of(case.model, self.settings.cache_dir)
        plan = self.settings.fault_plan
        return LegRequest(
            model=model,
            inputs=self._inputs(case.inputs, self._data_config(model)),
            dtype=case.dtype,
            batch_size=case.batch_size,
            numerics=case.numerics,
            repeat=self.settings.repeat,
            batch_checks=True,
            fault_plan=plan_for(plan, case.id) if plan else None,
            operator_share=self.settings.operator_share,
            operator_standard=self.settings.operator_standard,
        )

    def give(self, case: Case, request: LegRequest) -> None:
        """Take a module and inputs of the user's own for a case."""
        share = self.settings.operator_share
        plan = self.settings.fault_plan
        self._given = {
            case: dataclasses.replace(
                request,
                operator_share=1.0 if share is None else share,
                fault_plan=plan_for(plan, case.id) if plan else None,
            )
        }

    def ask(self, request: Request[Answer]) -> Answer:
        """Have the device's process answer.  Raises as `DeviceWorker.ask` does."""
        return self.worker.ask(request, self.timeout)

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
        judged = self._judged(request, reference, candidate)
        return dataclasses.replace(
            judged,
            findings=(*self._leg_findings(reference, candidate), *judged.findings),
            notes=(
                *_idle_faults(request, candidate),
                *judged.notes,
                *([f"{left_out}."] if (left_out := request.inputs.left_out) else ()),
            ),
        )

    def _judged(self, request: LegRequest, reference: LegResult, candidate: LegResult) -> Verdict:
        if isinstance(request.model, OwnModule):
            try:
                self.cpu.oracle(request)
            except CaseProblem as problem:
                return verdict.judge_without_oracle(
                    reference.outputs,
                    candidate.outputs,
                    len(request.inputs.labels),
                    candidate.operators,
                    arithmetic.declared(request.dtype, candidate.record.numerics),
                    f"It does not run in float64: {problem.reason}",
                )
        return verdict.judge(self._evidence(request, reference, candidate))

    def judge_batch(
        self, request: LegRequest, candidate: LegResult, batch_size: int
    ) -> list[Finding]:
        """What is wrong in full batches of another size, which the device runs for it.

        `request`, `candidate`: of the case.  Raises as `ask` and `judge` do.
        """
        full = dataclasses.replace(
            request.on_cpu(), numerics=request.numerics, fault_plan=request.fault_plan,
            batch_size=batch_size, fill=True,
        )  # fmt: skip
        evidence = self._evidence(request, self.cpu.reference(request), candidate)
        return verdict.judge_batch(evidence, self.ask(full).outputs, batch_size)

    def _evidence(
        self, request: LegRequest, reference: LegResult, candidate: LegResult
    ) -> Evidence:
        declared = arithmetic.declared(request.dtype, candidate.record.numerics)
        has_remedy = candidate.record.device.details.get("has_compatible_impl")
        return Evidence(
            reference=reference.outputs,
            candidate=candidate.outputs,
            logits=reference.logits,
            labels=request.inputs.labels,
            oracle=self.cpu.oracle(request, declared.gelu),
            as_asked=self.cpu.oracle(request) if declared.gelu else None,
            budget=self.cpu.budget(request, declared),
            variants=candidate.variants,
            operators=candidate.operators,
            remedy=_FORM_REMEDY if has_remedy == "True" else "",
            own=isinstance(request.model, OwnModule),
        )

    def time(self, plan: ThroughputPlan, case: Case) -> Throughput:
        """Time both sides.  Raises CaseProblem (fail_load)."""
        from harness.execution import throughput  # brings torch.utils.benchmark; few runs need it

        return throughput.measure(
            plan, self.request(case), self._cpu_worker, self.worker, self.timeout
        )

    def _data_config(self, model: ModelFiles) -> dict[str, Any]:
        """The model's preprocessing; loading the model for it also checks its weights."""
        if model not in self._data_configs:
            self._data_configs[model] = self.cpu.data_config(model)
        return self._data_configs[model]

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
        found += [
            Finding(Status.FAIL_ACCURACY, Stage.FORWARD, f"The device's {what}.")
            for what in candidate.undeclared
        ]
        fallback = candidate.record.fallback_operators
        if fallback and not self.settings.allow_cpu_fallback:
            found.append(
                Finding(
                    Status.FAIL_FALLBACK,
                    Stage.FORWARD,
                    f"Ran on the CPU instead of {self.device}: {', '.join(fallback)}. "
                    "The comparison says nothing about them (--allow-cpu-fallback accepts it).",
                )
            )
        return found


def _idle_faults(request: LegRequest, candidate: LegResult) -> list[str]:
    """A planned fault that never acted: the case says nothing about it."""
    if request.fault_plan is None:
        return []
    faults = FaultPlan.from_json(request.fault_plan).faults
    largest = request.batch_size  # a batch that the images do not fill runs full as well
    idle = []
    for number, (fault, effects) in enumerate(
        zip(faults, candidate.counters.fault_effects, strict=False), start=1
    ):
        if effects:
            continue
        where = f" in {fault.module}" if fault.module is not None else ""
        why = f"no call of {fault.operator}{where} met its terms"
        if fault.batch_over >= largest:
            why = (
                f"it waits for more than {fault.batch_over} images, the largest batch is {largest}"
            )
        elif fault.operator not in ("*", *candidate.counters.operators):
            why = f"the model never calls {fault.operator}"
        idle.append(f"Fault {number} of the fault plan never acted: {why}.")
    return idle
