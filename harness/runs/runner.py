"""The way of one case: sources -> legs -> comparison -> verdict -> record, written at once."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from harness.cases import precision_plans
from harness.cases.case import Case
from harness.detection import sensitivity
from harness.execution.legs import LegRequest, LegResult
from harness.execution.localize import LocalizeRequest
from harness.execution.sides import Sides
from harness.judgement import localization, operator_rows
from harness.judgement.localization import Localization
from harness.judgement.shares import ErrorShares
from harness.judgement.verdict import RULES, Verdict
from harness.records import results_file
from harness.records.lines import CaseRecord, StartRecord, UsedPlan
from harness.records.sensitivity import Sensitivity
from harness.records.throughput import Throughput, ThroughputPlan
from harness.records.views import ImageView
from harness.runs import case_shares, memory, views
from harness.system import messages, process
from harness.system.messages import say
from harness.system.status import (
    CaseProblem,
    Finding,
    Stage,
    Status,
    UsageProblem,
    unforeseen,
)

# Runs of every operator in a case that gives different results for the same input: a fault that
# comes half of the time shows with a probability of 1 - 2^-9.
FLAKY_REPEATS = 10


@dataclasses.dataclass(frozen=True)
class Ran:
    """A case that ran: its record of that time, and what its model returned on both sides."""

    record: CaseRecord
    request: LegRequest
    reference: LegResult
    candidate: LegResult | None  # None: the device's side came to no end


class CaseRunner:
    """Runs cases against one device and records each as it ends."""

    def __init__(
        self,
        sides: Sides,
        results: Path | None = None,
        finish: Callable[[CaseRecord], CaseRecord] = lambda record: record,
        directory: Path | None = None,
    ) -> None:
        """`results`: results.jsonl to append to; `finish`: what else a record gets before that.

        `directory`: where reproducers go, beside `results` where that is given.
        """
        self.sides = sides
        self.settings = sides.settings
        self.results = results
        self._directory = results.parent if results is not None else directory
        self._finish = finish
        self._ran: set[str] = set()  # ids
        self.last: Ran | None = None  # of the case that ran last

    def run(self, case: Case) -> CaseRecord:
        """Run one case and append its record; whatever goes wrong becomes its status.

        Returns the record that stands, where this runner has run the case before.
        Raises UsageProblem only when the device itself is not there.
        """
        self.last = None  # its memory may be needed
        started = time.perf_counter()
        device = self.settings.device
        progress = _Progress(case, device.emulated)
        if self.results is not None:
            begun = StartRecord(case_id=case.id, device=str(device))
            results_file.append(self.results, begun)
        try:
            self._measure(case, progress)
        except CaseProblem as problem:
            progress.problem = problem
        except UsageProblem:
            raise
        except Exception as error:
            # A fault of ours, or the host's, must not take the other cases with it.
            said = unforeseen(error)
            progress.problem = CaseProblem(Status.ERROR_HARNESS, progress.stage, said)
            progress.log_tail = traceback.format_exc()
        record = self._finish(progress.record(time.perf_counter() - started))
        self._append(record)
        plan = self.settings.throughput
        if plan is not None and case.throughput is not None:
            plan = dataclasses.replace(plan, batches=case.throughput)
        if plan is not None and plan.batches:
            # The verdict is on disk by now: what happens here cannot take it away.
            found = self._throughput(plan, case, progress)
            record = self._with_timed(record.model_copy(update={"throughput": found}), progress)
            self._append(record)
        self.last = progress.ran(record)
        process.release()
        if self.results is not None and case.id in self._ran:
            # Another plugin asked for it: of two verdicts the better one must not be seen alone.
            written = results_file.read(self.results).cases
            record = next((one for one in written if one.case_id == case.id), record)
        self._ran.add(case.id)
        return record

    def ran(self, case: Case) -> bool:
        """Whether this runner has run a case of that id."""
        return case.id in self._ran

    def close(self) -> None:
        """End the processes of both sides."""
        self.sides.close()

    def _append(self, record: CaseRecord) -> None:
        if self.results is not None:
            results_file.append(self.results, record)

    def _measure(self, case: Case, progress: _Progress) -> None:
        sides = self.sides
        memory.check(case, sides)
        sides.start()
        request = sides.request(case)
        progress.request = request
        if case.plan is not None:
            plan = sides.precision_plan(case.plan)
            progress.plan = UsedPlan(
                file=Path(case.plan).name, sha256=precision_plans.digest(plan),
                modules=plan.modules, seconds=plan.seconds, emulated=plan.emulated,
            )  # fmt: skip
        if sides.worker.starting:
            # Not timed, so that it may share the host with that; what is wrong comes up again.
            with contextlib.suppress(CaseProblem):
                sides.cpu.oracle(request)
        progress.reference = sides.cpu.reference(request)
        progress.candidate = candidate = sides.ask(request)
        progress.verdict = sides.judge(request, candidate)
        progress.views = views.made(sides, request, progress.reference, candidate)
        if self._wants_localization(progress.verdict):
            progress.localization = found = self._localize(request, candidate, progress)
            if found.culprits:
                # A culprit is evidence, whatever the end of the model says.
                check = operator_rows.summarise(found.rows, 1.0)
                progress.candidate = dataclasses.replace(candidate, operators=check)
                progress.verdict = sides.judge(request, progress.candidate)
        self._measure_shares(request, progress)
        if self.settings.sensitivity:
            progress.sensitivity = sensitivity.measure(sides, case)

    def _measure_shares(self, request: LegRequest, progress: _Progress) -> None:
        """Who caused the error; what prevents that takes nothing from the case."""
        candidate, judged = progress.candidate, progress.verdict
        if candidate is None or judged is None or not judged.budgets:
            return
        found = progress.localization
        check = candidate.operators
        rows = found.rows if found is not None else check.worst if check is not None else ()
        try:
            culprits = operator_rows.culprits(rows)
            progress.shares = case_shares.measure(self.sides, request, candidate, culprits)
        except CaseProblem as problem:
            why = problem.reason
            note = say("shares.none", "No shares of the error: {why}.", why=why)
            progress.verdict = dataclasses.replace(judged, notes=(*judged.notes, note))

    def _wants_localization(self, judged: Verdict) -> bool:
        mode = self.settings.localize
        return mode == "always" or (mode == "auto" and judged.about_device)

    def _localize(
        self, request: LegRequest, candidate: LegResult, progress: _Progress
    ) -> Localization:
        """Find the operator that goes wrong; what prevents that takes nothing from the case."""
        assert progress.verdict is not None
        start, stop, way = _to_localise(request, candidate, progress.verdict)
        where = Path("reproducers", progress.case.id)  # below the results
        try:
            found = self.sides.ask(
                LocalizeRequest(
                    request,
                    start,
                    stop,
                    candidate.record.numerics,
                    way=way,
                    repeats=FLAKY_REPEATS if candidate.unstable else 1,
                    directory=self._directory / where if self._directory else None,
                )
            )
        except CaseProblem as problem:
            return Localization(
                problem=say("batch.ended", "{status}: {reason}", status=problem.status.value,
                            reason=problem.reason)
            )  # fmt: skip
        return dataclasses.replace(
            found.localization,
            reproducers=tuple((where / name).as_posix() for name in found.localization.reproducers),
            reproduced=localization.reproduced(
                found.outputs,
                {
                    name: array[start : start + len(found.outputs[name])]
                    for name, array in (candidate.variants.get(way) or candidate.outputs).items()
                    if name in found.outputs
                },
                progress.verdict.budgets,
            ),
        )

    def _throughput(self, plan: ThroughputPlan, case: Case, progress: _Progress) -> Throughput:
        """Time both sides; whatever goes wrong is said there and nowhere else."""
        if progress.candidate is None:
            why = progress.problem.status.value if progress.problem else ""
            said = say("batch.case_ended", "Not measured: the case ended as {status}.", status=why)
            return Throughput(plan, problem=said)
        try:
            return self.sides.time(plan, case)
        except Exception as error:
            said = error.reason if isinstance(error, CaseProblem) else unforeseen(error)
            why = say("batch.not_measured", "Not measured: {why}", why=said)
            return Throughput(plan, problem=why)

    def _with_timed(self, record: CaseRecord, progress: _Progress) -> CaseRecord:
        """The record, with what is wrong in the batch sizes that were timed."""
        candidate, timed = progress.candidate, record.throughput
        if candidate is None or progress.verdict is None or timed is None:
            return record
        findings, notes = list(record.findings), list(progress.verdict.notes)
        request = self.sides.request(progress.case)
        for row in timed.rows:
            if row.device is None or row.batch_size == request.batch_size:
                continue  # the case's own batch was judged with it
            try:
                findings += self.sides.judge_batch(request, candidate, row.batch_size)
            except CaseProblem as problem:
                notes.append(
                    say(
                        "batch.not_judged",
                        "Batch {size} was timed and not judged: {why}",
                        size=row.batch_size,
                        why=problem.reason,
                    )
                )
        judged = dataclasses.replace(progress.verdict, findings=tuple(findings))
        leading = judged.leading
        return record.model_copy(
            update={
                "findings": findings,
                "notes": list(map(str, notes)),
                "note_messages": [list(messages.of(note)) for note in notes],
                "status": judged.status,
                "stage": leading.stage if leading else record.stage,
                "reason": leading.reason if leading else record.reason,
            }
        )


def _to_localise(
    request: LegRequest, candidate: LegResult, judged: Verdict
) -> tuple[int, int, str]:
    """First image and end of the batch to localise in, and how it is batched."""
    images, size = len(request.inputs.labels), request.batch_size
    check, wrong = candidate.operators, judged.wrong_batching
    if check is not None and check.culprits:
        return 0, min(images, size), "full" if images < size else ""  # where they were found
    if wrong is None:
        return *localization.worst_batch(judged.budgets, images, size), ""
    if wrong.way == "alone":
        return wrong.image, wrong.image + 1, wrong.way
    if wrong.way == "full":  # only the last batch was not full before
        return (images - 1) // size * size, images, wrong.way
    # Reversed, the batches begin at the last image.
    stop = images - (images - 1 - wrong.image) // size * size
    return max(0, stop - size), stop, wrong.way


@dataclasses.dataclass
class _Progress:
    """What is known of a case so far: all of it goes into the record, however the case ends."""

    case: Case
    emulated: bool
    request: LegRequest | None = None
    reference: LegResult | None = None
    candidate: LegResult | None = None
    verdict: Verdict | None = None
    sensitivity: Sensitivity | None = None
    localization: Localization | None = None
    views: tuple[ImageView, ...] = ()
    plan: UsedPlan | None = None
    shares: ErrorShares | None = None
    problem: CaseProblem | None = None
    log_tail: str = ""

    @property
    def stage(self) -> Stage:
        """Where the case is, by what there is of it."""
        if self.request is None:
            return Stage.LOAD
        if self.reference is None:
            return Stage.REFERENCE
        return Stage.FORWARD if self.candidate is None else Stage.COMPARE

    def ran(self, record: CaseRecord) -> Ran | None:
        """What is kept of the case; None where it came to no forward pass."""
        if self.request is None or self.reference is None:
            return None
        candidate = self.candidate.returned() if self.candidate is not None else None
        return Ran(record, self.request, self.reference.returned(), candidate)

    def record(self, seconds: float) -> CaseRecord:
        """Make the record."""
        judged, problem = self.verdict or Verdict(()), self.problem
        if problem is not None:
            last = Finding(problem.status, problem.stage, problem.reason)
            judged = dataclasses.replace(judged, findings=(*judged.findings, last))
        leading, reference = judged.leading, self.reference
        inputs = self.request.inputs if self.request else None
        return CaseRecord(
            case_id=self.case.id,
            case=self.case,
            status=judged.status,
            rules=RULES if self.verdict is not None else "",
            stage=leading.stage if leading else None,
            reason=leading.reason if leading else "",
            findings=list(judged.findings),
            emulated=self.emulated,
            weights=reference.weights if reference else "",
            weights_sha256=reference.record.weights_sha256 if reference else "",
            inputs=inputs.description if inputs else "",
            inputs_sha256=inputs.sha256 if inputs else "",
            inputs_shape=list(inputs.shape) if inputs else [],
            labels=list(inputs.labels) if inputs else [],
            views=list(self.views),
            reference=reference.record if reference else None,
            candidate=self.candidate.record if self.candidate else None,
            gate=judged.gate,
            outputs=list(judged.outputs),
            discrimination=judged.discrimination,
            separation=judged.separation,
            arithmetic=judged.arithmetic,
            budgets=list(judged.budgets),
            operators=self.candidate.operators if self.candidate else None,
            localization=self.localization,
            notes=list(map(str, judged.notes)),
            note_messages=[list(messages.of(note)) for note in judged.notes],
            sensitivity=self.sensitivity,
            plan=self.plan,
            shares=self.shares,
            duration_seconds=seconds,
            log_tail=self.log_tail or getattr(problem, "log_tail", ""),
        )
