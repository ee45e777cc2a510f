"""Runs the calls of a catalogue on a device: resumable, in shards, changed ones only.

Calls go to the device's processes in batches.  A device error ends a batch early and the process
with it; a crash or a hang loses its batch, whose calls are then asked for one by one: each of these
costs one call.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from harness.devices import emulated_kernels
from harness.devices.spec import DeviceSpec
from harness.execution.worker import POISONED, DeviceWorker
from harness.qualification import inputs, results
from harness.qualification.catalogue import Catalogue
from harness.qualification.cropping import MOST_FLOPS
from harness.qualification.device_requests import Batch, Describe, Single
from harness.qualification.outcomes import Outcome, settled
from harness.qualification.results import Results, Run, Writer
from harness.records.leg import DeviceInfo
from harness.system import files
from harness.system.status import CaseProblem, ExitCode, Status, UsageProblem

Say = Callable[[str], None]
BATCH = 24  # calls a message
_DESCRIBE_SECONDS = 300.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be run.

    `shard`: (number from 1, of how many); `since`: an earlier run whose verdict stands where bits
    did not change; `call_seconds`: the longest that one call may take; `largest`: floating-point
    operations beyond which a call is cropped; `kernels`, `fault_plan` and
    `fault_plan_file`: of the emulated NPU, the plan as JSON and where it was read;
    `processes`: of the device, which take batches side by side.
    """

    device: DeviceSpec
    dtype: str = "float32"
    numerics: str = "strict"
    shard: tuple[int, int] = (1, 1)
    since: Results | None = None
    variants: bool = False
    call_seconds: float = 120.0
    largest: float = MOST_FLOPS
    kernels: str = emulated_kernels.DEFAULT
    fault_plan: str | None = None
    fault_plan_file: str = ""
    processes: int = 1

    def takes(self, call: str) -> bool:
        """Whether a call belongs to this shard: by its id, so alike on every host."""
        number, of = self.shard
        return int(call, 16) % of == number - 1


def run(catalogue: Catalogue, plan: Plan, path: Path, say: Say, *, resume: bool = False) -> Results:
    """Run and judge; every call's outcome is appended to `path` at once.

    `resume`: keep what the file already holds, but for the infrastructure's trouble.  Raises
    UsageProblem where the file, or `plan.since`, is of something else, and CaseProblem when the
    device does not even say what it is.
    """
    workers = [DeviceWorker(plan.device, plan.kernels) for _ in range(max(1, plan.processes))]
    try:
        info, read = _described(workers[0], plan)
        versions = {**catalogue.header.versions, "cann": info.details.get("cann", "")}
        if not info.kind.startswith("npu"):
            versions = {k: v for k, v in versions.items() if k not in ("cann", "torch_npu")}
        wanted = {name: text for name, text in catalogue.signatures.items() if plan.takes(name)}
        this = Run(
            device=info.name,
            kind=info.kind,
            emulated=info.emulated,
            dtype=plan.dtype,
            numerics=plan.numerics,
            read=read,
            versions=versions,
            inputs=inputs.VERSION,
            largest=plan.largest,
            variants=plan.variants,
            models=tuple(sorted(catalogue.models)),
            calls=len(catalogue.signatures),
            shard="" if plan.shard[1] == 1 else f"{plan.shard[0]}/{plan.shard[1]}",
            kernels=plan.kernels if info.emulated else "",
            fault_plan=plan.fault_plan_file,
            fault_plan_sha256=files.sha256_json(plan.fault_plan) if plan.fault_plan else "",
        )
        _check_since(this, plan)
        kept = _kept(this, path) if resume else {}
        writer = Writer(path, this, new=not kept)
        done = dict(kept)
        try:
            for outcome in _side_by_side(workers, plan, read, _left(wanted, kept)):
                before = plan.since.outcomes.get(outcome.id) if plan.since else None
                done[outcome.id] = settled(outcome, before)
                writer.add(done[outcome.id])
                if len(done) % 500 < 1:
                    say(f"{len(done)} of {len(wanted)} calls")
        except BaseException:
            writer.close()
            raise
        found = Results(this, done, ended=True)
        writer.end(exit_code(found))
        return found
    finally:
        for worker in workers:
            worker.stop()


def again(
    worker: DeviceWorker,
    call: str,
    text: str,
    plan: Plan,
    path: Path | None = None,
    scripts: Path | None = None,
) -> Outcome:
    """One call again; `path`, `scripts`: see `device_requests.Single`.

    Raises CaseProblem when the device does not answer, or the arguments do not fit.
    """
    _, read = _described(worker, plan)
    batch = Batch(
        {call: text},
        plan.dtype,
        plan.numerics,
        read,
        variants=plan.variants,
        largest=plan.largest,
        fault_plan=plan.fault_plan,
    )
    return worker.ask(Single(batch, path, scripts), plan.call_seconds)[0]


def _described(worker: DeviceWorker, plan: Plan) -> tuple[DeviceInfo, dict[str, str]]:
    """Raises UsageProblem for a device that lacks the dtype."""
    try:
        return worker.ask(Describe(plan.numerics, plan.dtype), _DESCRIBE_SECONDS)
    except CaseProblem as problem:
        if problem.status is Status.FAIL_UNSUPPORTED:
            raise UsageProblem(problem.reason) from problem
        raise


def exit_code(found: Results) -> ExitCode:
    """By the calls: 1 for one that is not qualified, 10 for trouble alone, 5 for none."""
    statuses = {outcome.status for outcome in found.outcomes.values()}
    if not statuses:
        return ExitCode.NOTHING_SELECTED
    if any(not (s.is_error or s in (Status.PASS, Status.SKIP)) for s in statuses):
        return ExitCode.FAILED
    return ExitCode.INFRASTRUCTURE if any(s.is_error for s in statuses) else ExitCode.OK


def _left(wanted: Mapping[str, str], kept: Mapping[str, Outcome]) -> dict[str, str]:
    return {name: text for name, text in wanted.items() if name not in kept}


def _check_since(this: Run, plan: Plan) -> None:
    """Bits are compared within one chip, format and setting alone."""
    if plan.since is None:
        return
    if other := this.other_bits(plan.since.run):
        raise UsageProblem(
            f"The run of --changed-since is of {other}: bits are compared within one only; leave "
            "the option out."
        )


def _kept(this: Run, path: Path) -> dict[str, Outcome]:
    if not path.exists():
        return {}
    earlier = results.read(path)
    if different := this.differs(earlier.run):
        raise UsageProblem(
            f"{path} cannot be gone on with, since it was made otherwise ({different}): give "
            "another --results."
        )
    results.trim(path)
    return {name: item for name, item in earlier.outcomes.items() if not item.status.is_error}


def _side_by_side(
    workers: Sequence[DeviceWorker], plan: Plan, read: Mapping[str, str], wanted: dict[str, str]
) -> Iterator[Outcome]:
    """As `_outcomes`, with every worker taking its part; in the order in which they come."""
    names = list(wanted)
    parts = [{n: wanted[n] for n in names[i :: len(workers)]} for i in range(len(workers))]
    found: queue.SimpleQueue[Outcome | Exception | None] = queue.SimpleQueue()
    over = threading.Event()

    def take(worker: DeviceWorker, part: dict[str, str]) -> None:
        try:
            for outcome in _outcomes(worker, plan, read, part, over):
                found.put(outcome)
            found.put(None)
        except Exception as error:  # raised where the results are written
            found.put(error)

    for worker, part in zip(workers, parts, strict=True):
        threading.Thread(target=take, args=(worker, part), daemon=True).start()
    left = len(workers)
    try:
        while left:
            item = found.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                left -= 1
            else:
                yield item
    finally:
        over.set()  # a process that is stopped is not to be started again


def _outcomes(
    worker: DeviceWorker,
    plan: Plan,
    read: Mapping[str, str],
    wanted: dict[str, str],
    over: threading.Event,
) -> Iterator[Outcome]:
    """Every call's outcome, in order but for those of a batch that was lost."""
    known = {} if plan.since is None else _known(plan.since)
    left = list(wanted)
    size, alone = BATCH, 0
    while left and not over.is_set():
        names = left[:size]
        batch = Batch(
            calls={name: wanted[name] for name in names},
            dtype=plan.dtype,
            numerics=plan.numerics,
            read=read,
            known={name: known[name] for name in names if name in known},
            variants=plan.variants,
            largest=plan.largest,
            fault_plan=plan.fault_plan,
        )
        try:
            found = worker.ask(batch, plan.call_seconds * (1 + (len(names) - 1) / 8))
        except CaseProblem as problem:
            if len(names) > 1:  # which of them it was shows when they are asked for one by one
                size = 1
                alone = len(left) - len(names)
                continue
            yield Outcome(names[0], wanted[names[0]], problem.status, problem.reason)
            left = left[1:]
        else:
            yield from found
            left = left[len(found) :]
            if found and found[-1].status in POISONED:
                worker.stop()
        if size == 1 and len(left) <= alone:
            size = BATCH


def _known(since: Results) -> dict[str, dict[str, tuple[str, str]]]:
    """What need not be judged again where it comes out the same."""
    return {
        name: {
            which: (item.bits, item.inputs)
            for which, item in outcome.sets.items()
            if item.bits and not item.status.is_error
        }
        for name, outcome in since.outcomes.items()
    }
