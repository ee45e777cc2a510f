"""The two sides of a case, each in a process of its own, and the verdict on what they gave."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cases import precision_plans
from harness.cases.case import Case
from harness.cases.models.operator_ranges import linear_notes
from harness.cases.precision_plans import PrecisionPlan
from harness.devices.fault_plan import FaultPlan, plan_for
from harness.devices.spec import DeviceSpec
from harness.execution.legs import LegRequest, LegResult, OtherImages
from harness.execution.own_module import OwnModule
from harness.execution.reference.answers import Answers
from harness.execution.reference.cpu_process import CpuProcess
from harness.execution.settings import RunSettings
from harness.execution.worker import Answer, DeviceWorker, Request
from harness.judgement import arithmetic, verdict
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.metrics import Array
from harness.judgement.verdict import Evidence, Verdict
from harness.records.throughput import Throughput, ThroughputPlan
from harness.system.messages import Said, say
from harness.system.status import CaseProblem, Finding, Stage, Status, UsageProblem

if TYPE_CHECKING:
    from harness.devices.device import Device

DIFFERENT_WEIGHTS = say(
    "weights.differ",
    "The two sides loaded different weights (their hashes differ): the files changed during the "
    "run.",
)
_FORM_REMEDY = say(
    "gelu.remedy", "with TORCH_NPU_USE_COMPATIBLE_IMPL=1 torch_npu computes what is asked"
)


class Sides:
    """Runs both sides of cases against one device, and judges.

    `worker`: the device's process; `cpu`: the CPU's; `timeout`: seconds that each has for one
    request.
    """

    def __init__(self, settings: RunSettings) -> None:
        """Raises UsageProblem when others can write to the cache's folder, or the key is none."""
        settings.check_folders()
        self.settings = settings
        self.device = settings.device
        self.timeout = settings.case_timeout
        self.worker = DeviceWorker(settings.device, settings.emulated_kernels)
        self.cpu = CpuProcess(settings, self.worker.settle)
        self.worker.beside, self.cpu.worker.beside = self.cpu.worker, self.worker
        # One more for timing the CPU, whose settings are tried there; started when it is asked.
        self._timed_cpu = DeviceWorker(DeviceSpec("cpu"))
        self._last: tuple[LegRequest, Arithmetic, Answers] | None = None
        self._given: dict[Case, LegRequest] = {}

    def start(self) -> None:
        """Start the processes of both sides without waiting for them."""
        self.worker.start()
        self.cpu.worker.start()

    def close(self) -> None:
        """End the processes."""
        workers = (self.worker, self.cpu.worker, self._timed_cpu)
        for worker in workers:
            worker.leave()
        for worker in workers:
            worker.stop()

    def request(self, case: Case) -> LegRequest:
        """Prepare a case's model and images.  Raises CaseProblem (fail_load)."""
        if case in self._given:
            return self._given[case]
        model, images = self.cpu.prepare(case.model, case.inputs)
        plan = self.settings.fault_plan
        promoted: tuple[str, ...] = ()
        if case.plan is not None:
            kept = self.precision_plan(case.plan)
            self.cpu.check_plan(model, kept)
            promoted = tuple(kept.modules)
        return LegRequest(
            model=model,
            inputs=images,
            dtype=case.dtype,
            batch_size=case.batch_size,
            numerics=case.numerics,
            repeat=self.settings.repeat,
            batch_checks=True,
            fault_plan=plan_for(plan, case.id) if plan else None,
            operator_share=self.settings.operator_share,
            operator_standard=self.settings.operator_standard,
            promoted=promoted,
        )

    def precision_plan(self, path: str) -> PrecisionPlan:
        """A case's plan, which may have gone since the case was selected."""
        try:
            return precision_plans.read(Path(path))
        except UsageProblem as problem:
            raise CaseProblem(Status.FAIL_LOAD, Stage.LOAD, problem.said) from problem

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

    def ask(self, request: Request[Device, Answer]) -> Answer:
        """Have the device's process answer.  Raises as `DeviceWorker.ask` does."""
        return self.worker.ask(request, self.timeout)

    def judge(self, request: LegRequest, candidate: LegResult) -> Verdict:
        """Judge what a device gave for `request` against the CPU side, which is kept.

        Every verdict of the harness comes from here, so that what measures its power to detect
        faults measures the verdict itself.  Raises CaseProblem (fail_load, fail_reference).
        """
        answers = self.answers(request, candidate)
        reference = answers.reference
        if candidate.record.weights_sha256 != reference.record.weights_sha256:
            raise CaseProblem(
                Status.FAIL_LOAD,
                Stage.COMPARE,
                DIFFERENT_WEIGHTS,
            )
        judged = _judged(request, answers, candidate)
        return dataclasses.replace(
            judged,
            findings=(*self._leg_findings(reference, candidate), *judged.findings),
            notes=(
                *_planted(request, candidate),
                *judged.notes,
                *linear_notes(reference.record.ranges),
                *(
                    [say("inputs.left_out", "{account}.", account=left_out)]
                    if (left_out := request.inputs.left_out)
                    else ()
                ),
            ),
        )

    def judge_batch(
        self, request: LegRequest, candidate: LegResult, batch_size: int
    ) -> list[Finding]:
        """What is wrong in full batches of another size, which the device runs for it.

        `request`, `candidate`: of the case.  Raises as `ask` and `judge` do.
        """
        full = request.once(batch_size=batch_size, fill=True)
        evidence = _evidence(request, self.answers(request, candidate), candidate)
        return verdict.judge_batch(evidence, self.ask(full).outputs, batch_size)

    def on_images(self, request: LegRequest, images: Array) -> LegResult:
        """The device's leg on other images, float32 [N, C, H, W].  Raises as `ask` does."""
        return self.ask(OtherImages(request.once(), images))

    def time(self, plan: ThroughputPlan, case: Case) -> Throughput:
        """Time both sides.  Raises CaseProblem (fail_load)."""
        from harness.execution import throughput  # brings torch.utils.benchmark; few runs need it

        return throughput.measure(
            plan, self.request(case), self._timed_cpu, self.worker, self.timeout
        )

    def answers(self, request: LegRequest, candidate: LegResult) -> Answers:
        """What the CPU says of a request in the arithmetic that `candidate` declares, kept.

        A case is judged more than once.  Raises CaseProblem.
        """
        declared = arithmetic.declared(request.dtype, candidate.record.numerics)
        if self._last is None or self._last[:2] != (request, declared):
            self._last = None  # its memory may be needed
            self._last = request, declared, self.cpu.answers(request, declared)
        return self._last[2]

    def _leg_findings(self, reference: LegResult, candidate: LegResult) -> list[Finding]:
        found = []
        if reference.unstable:
            found.append(
                Finding(
                    Status.FAIL_REFERENCE,
                    Stage.REFERENCE,
                    say(
                        "flaky.cpu",
                        "The CPU gives different values for {names} when the same forward is "
                        "repeated: it cannot serve as a reference.",
                        names=", ".join(reference.unstable),
                    ),
                )
            )
        if candidate.unstable:
            found.append(
                Finding(
                    Status.FLAKY,
                    Stage.FORWARD,
                    say(
                        "flaky.device",
                        "The device gives different values for {names} when the same forward is "
                        "repeated on the same input.",
                        names=", ".join(candidate.unstable),
                    ),
                )
            )
        found += [
            Finding(Status.FAIL_ACCURACY, Stage.FORWARD, what) for what in candidate.undeclared
        ]
        fallback = candidate.record.fallback_operators
        if fallback and not self.settings.allow_cpu_fallback:
            found.append(
                Finding(
                    Status.FAIL_FALLBACK,
                    Stage.FORWARD,
                    say(
                        "fallback",
                        "Ran on the CPU instead of {device}: {operators}. The comparison says "
                        "nothing about them (--allow-cpu-fallback accepts it).",
                        device=self.device,
                        operators=", ".join(fallback),
                    ),
                )
            )
        return found


def _judged(request: LegRequest, answers: Answers, candidate: LegResult) -> Verdict:
    if answers.no_oracle:
        return verdict.judge_without_oracle(
            answers.reference.outputs,
            candidate.outputs,
            len(request.inputs.labels),
            candidate.operators,
            arithmetic.declared(request.dtype, candidate.record.numerics),
            say("oracle.none", "It does not run in float64: {why}", why=answers.no_oracle),
        )
    return verdict.judge(_evidence(request, answers, candidate))


def _evidence(request: LegRequest, answers: Answers, candidate: LegResult) -> Evidence:
    assert answers.oracle is not None and answers.budget is not None
    has_remedy = candidate.record.device.details.get("has_compatible_impl")
    return Evidence(
        reference=answers.reference.outputs,
        candidate=candidate.outputs,
        logits=answers.reference.logits,
        labels=request.inputs.labels,
        oracle=answers.oracle,
        as_asked=answers.as_asked,
        budget=answers.budget,
        variants=candidate.variants,
        operators=candidate.operators,
        remedy=_FORM_REMEDY if has_remedy == "True" else "",
        own=isinstance(request.model, OwnModule),
    )


def _planted(request: LegRequest, candidate: LegResult) -> list[Said]:
    """That faults were planted, and which never acted: the case says nothing about those."""
    if request.fault_plan is None:
        return []
    faults = FaultPlan.from_json(request.fault_plan).faults
    largest = request.batch_size  # a batch that the images do not fill runs full as well
    english = "Faults were planted on purpose ({count}): what they cause says nothing of a device."
    said = [say("fault.planted", english, count=len(faults))]
    for number, (fault, effects) in enumerate(
        zip(faults, candidate.counters.fault_effects, strict=False), start=1
    ):
        if effects:
            continue
        name = fault.operator if fault.module is None else f"{fault.operator} ({fault.module})"
        why = say("fault.terms", "no call of {operator} met its terms", operator=name)
        if fault.batch_over >= largest:
            why = say(
                "fault.batch",
                "it waits for more than {over} images, the largest batch is {largest}",
                over=fault.batch_over,
                largest=largest,
            )
        elif fault.operator not in ("*", *candidate.counters.operators):
            why = say("fault.operator", "the model never calls {operator}", operator=fault.operator)
        said.append(
            say(
                "fault.idle",
                "Fault {number} of the fault plan never acted: {why}.",
                number=number,
                why=why,
            )
        )
    return said
