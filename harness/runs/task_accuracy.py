"""Runs labelled images through both sides: streamed in parts, resumable, in shards.

While the device answers a part, the CPU's process reads the next one and answers it: at most two
parts of images are on disk, and one in the memory of each side.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import datetime
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from harness.cases import image_files, labelled_images
from harness.cases.labelled_images import Labelled, LabelledImages
from harness.cases.models.model_files import ModelFiles
from harness.devices import emulated_kernels
from harness.devices.spec import DeviceSpec
from harness.execution.classification import (
    Answers,
    ClassifierProcess,
    Classify,
    ListImages,
    Open,
    Opened,
    Prepare,
    Setup,
    Stored,
)
from harness.execution.sides import DIFFERENT_WEIGHTS
from harness.records import results_file, task_accuracy_result
from harness.records import task_accuracy as records
from harness.records.task_accuracy import Answered, Part, TaskEnd, TaskRun, Unread, Writer
from harness.records.task_accuracy_result import Result
from harness.runs.progress import show_time
from harness.runs.shards import Shard
from harness.system import environment, process
from harness.system.status import CaseProblem, Stage, Status, UsageProblem

Say = Callable[[str], None]

# Preprocessed images of a part: three copies are in memory while they are joined and written.
_PART_BYTES = 32 << 20
_MOST_IN_PART = 64
# Pictures of a part: a device that is wrong everywhere flips all.
_MOST_PICTURES = 8
_PICTURE_SIDE = 192
_PICTURE_QUALITY = 80
_SAY_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be run.

    `dataset`: as `labelled_images.find` takes it; `dtype`, `numerics`: of the device, the CPU
    computes in plain float32; `timeout`: seconds that a side has for a part; `kernels`,
    `fault_plan` (JSON): of the emulated NPU.
    """

    model: ModelFiles
    dataset: Path
    device: DeviceSpec
    dtype: str = "float32"
    numerics: str = "default"
    batch_size: int = 8
    shard: Shard | None = None
    timeout: float = 600.0
    kernels: str = emulated_kernels.DEFAULT
    fault_plan: str | None = None

    @property
    def setup(self) -> Setup:
        """The device's side."""
        return Setup(self.model, self.dtype, self.numerics, self.batch_size, self.fault_plan)

    @property
    def cpu_setup(self) -> Setup:
        """The CPU's side: the accuracy that the device's is held against is float32's."""
        return Setup(self.model, "float32", "strict", self.batch_size)


def run(plan: Plan, folder: Path, say: Say, *, resume: bool = False) -> Result:
    """Run what is not there yet; every part is appended to the folder's file at once.

    `resume`: keep the parts that the file holds.  Raises UsageProblem where the file is of another
    run, and CaseProblem for what ends a side; what was measured stays.
    """
    labelled_images.check_there(plan.dataset)
    held = results_file.own(folder)
    cpu = ClassifierProcess(DeviceSpec("cpu"))
    device = ClassifierProcess(plan.device, plan.kernels)
    try:
        # From this thread: Linux ends a process with the thread that started it.
        cpu.start()
        device.start()
        with concurrent.futures.ThreadPoolExecutor(1) as beside:
            return _Run(plan, folder, say, cpu, device, beside).run(resume)
    finally:
        for worker in (cpu, device):
            worker.leave()
            worker.stop()
        held.release()


class _Run:
    """Both sides of one run; `beside`: the thread in which the device is asked."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        say: Say,
        cpu: ClassifierProcess,
        device: ClassifierProcess,
        beside: concurrent.futures.Executor,
    ) -> None:
        self.plan, self.folder, self.say = plan, folder, say
        self.cpu, self.device, self.beside = cpu, device, beside
        self.peaks: dict[str, int] = {}

    def run(self, resume: bool) -> Result:
        """Open both sides, then run part by part."""
        timeout = self.plan.timeout
        opening = self.beside.submit(self.device.ask, Open(self.plan.setup), timeout)
        ours = self.cpu.ask(Open(self.plan.cpu_setup), timeout)
        images = self.cpu.ask(
            ListImages(self.plan.dataset, len(ours.class_names), ours.label_names), timeout
        )
        theirs = opening.result()
        if ours.weights_sha256 != theirs.weights_sha256:
            raise CaseProblem(
                Status.FAIL_LOAD,
                Stage.LOAD,
                DIFFERENT_WEIGHTS,
            )
        this = _described(self.plan, images, ours, theirs)
        result = _kept(this, self.folder) if resume else Result(this)
        writer = Writer(
            self.folder, this, new=not (resume and records.file_of(self.folder).exists())
        )
        progress = _Progress(self.say, result, time.monotonic())
        if not result.missing and records.read_end(self.folder) is not None:
            return result
        for part in self._parts(images.images, result.missing, this):
            writer.add(part)
            result.add(part)
            progress.tell(time.monotonic())
        peak = process.host_peak()
        peaks = {**self.peaks, **({"run": peak} if peak else {})}
        end = TaskEnd(
            status=result.status, exit_code=result.code, finished=_now(), peak_bytes=peaks
        )
        writer.add(end)
        return result

    def _parts(
        self, images: Sequence[Labelled], wanted: Sequence[int], this: TaskRun
    ) -> Iterator[Part]:
        """The parts in order; the CPU is one ahead of the device."""
        pending: tuple[_Begun, concurrent.futures.Future[Answers | None]] | None = None
        targets = [self.folder / f".part-{number}.safetensors" for number in (0, 1)]
        try:
            for turn, number in enumerate(wanted):
                some = images[number * this.part_size : (number + 1) * this.part_size]
                begun = self._begin(number, some, this, targets[turn % 2])
                if pending is not None:
                    yield self._finished(*pending)
                pending = begun, self.beside.submit(self._device_answers, begun.stored)
            if pending is not None:
                yield self._finished(*pending)
        finally:
            if pending is not None:
                concurrent.futures.wait([pending[1]])  # it may be reading one of the files
            for target in targets:
                target.unlink(missing_ok=True)

    def _begin(self, number: int, some: Sequence[Labelled], this: TaskRun, target: Path) -> _Begun:
        """Read a part, and have the CPU answer it."""
        prepare = Prepare(tuple(one.path for one in some), this.preprocessing, target)
        stored = self.cpu.ask(prepare, self.plan.timeout)
        answers = None
        if stored.read:
            asked = Classify(self.plan.cpu_setup, stored)
            answers = self.cpu.ask(asked, self.plan.timeout, Stage.REFERENCE)
        return _Begun(number, tuple(some), stored, answers)

    def _device_answers(self, stored: Stored) -> Answers | None:
        if not stored.read:
            return None
        return self.device.ask(Classify(self.plan.setup, stored), self.plan.timeout)

    def _finished(self, begun: _Begun, asked: concurrent.futures.Future[Answers | None]) -> Part:
        ours, theirs = begun.answers, asked.result()
        answered = []
        if ours is not None and theirs is not None:
            for name, answers in (("CPU", ours), ("device", theirs)):
                self.peaks[name] = max(answers.host_peak or 0, self.peaks.get(name, 0))
            answered = [
                _answered(begun.images[place], ours, theirs, row)
                for row, place in enumerate(begun.stored.read)
            ]
        unread = [
            Unread(name=begun.images[place].name, label=begun.images[place].label, reason=reason)
            for place, reason in begun.stored.problems.items()
        ]
        paths = {one.name: one.path for one in begun.images}
        flipped = [one.name for one in answered if one.flipped][:_MOST_PICTURES]
        pictures = {name: _picture(paths[name]) for name in flipped}
        return Part(
            number=begun.number,
            answered=answered,
            unread=unread,
            pictures=pictures,
            fault_effects=list(theirs.fault_effects) if theirs is not None else [],
        )


@dataclasses.dataclass(frozen=True)
class _Begun:
    """A part that the CPU has answered."""

    number: int
    images: tuple[Labelled, ...]
    stored: Stored
    answers: Answers | None


def _described(plan: Plan, images: LabelledImages, ours: Opened, theirs: Opened) -> TaskRun:
    config = ours.data_config
    one = 4 * math.prod(config["input_size"])
    batches = max(1, min(_PART_BYTES // one, _MOST_IN_PART) // plan.batch_size)
    faults = plan.fault_plan
    return TaskRun(
        model=plan.model.name,
        architecture=ours.architecture,
        weights=ours.weights,
        weights_sha256=ours.weights_sha256,
        classes=list(ours.class_names),
        dataset=images.name,
        images=len(images.images),
        images_digest=images.digest,
        mapping=images.mapping,
        account=images.account,
        part_size=batches * plan.batch_size,
        batch_size=plan.batch_size,
        dtype=plan.dtype,
        numerics=plan.numerics,
        preprocessing={k: list(v) if isinstance(v, tuple) else v for k, v in config.items()},
        device=theirs.device,
        settings=theirs.settings,
        fallback=list(theirs.fallback),
        kernels=plan.kernels if plan.device.emulated else "",
        fault_plan=hashlib.sha256(faults.encode()).hexdigest()[:12] if faults else "none",
        environment=environment.capture(),
        shard=str(plan.shard) if plan.shard is not None and plan.shard.of > 1 else "",
        started=_now(),
    )


def _kept(this: TaskRun, folder: Path) -> Result:
    """What the folder holds of this run.  Raises UsageProblem where it is of another."""
    if not records.file_of(folder).exists():
        return Result(this)
    earlier = records.read_run(folder)
    different = this.differs(earlier)
    if not different and earlier.shard != this.shard:
        different = f"shard {earlier.shard or 'none'}, here {this.shard or 'none'}"
    if different:
        raise UsageProblem(
            f"{records.file_of(folder)} cannot be gone on with, since it was made otherwise "
            f"({different}): give another --results."
        )
    return task_accuracy_result.read(folder)


def merge(paths: Sequence[Path], folder: Path) -> Result:
    """Join the parts of several results into one file, and judge the whole.

    Raises UsageProblem where they do not belong together, or hold one part with different answers;
    nothing is written then.
    """
    runs = [records.read_run(path) for path in paths]
    for path, other in zip(paths[1:], runs[1:], strict=True):
        if different := runs[0].differs(other):
            raise UsageProblem(f"{path} does not belong to {paths[0]}: {different}.")
    whole = runs[0].model_copy(update={"shard": ""})
    target = records.file_of(folder).resolve()
    if any(records.file_of(path).resolve() == target for path in paths):
        raise UsageProblem(f"{folder} holds one of the parts: give another --results.")
    seen: dict[int, tuple[str, Path]] = {}
    for path in paths:
        for part in records.parts(path):
            answers = hashlib.sha256(part.model_dump_json().encode()).hexdigest()
            first = seen.setdefault(part.number, (answers, path))
            if first[0] != answers:
                raise UsageProblem(
                    f"{first[1]} and {path} hold part {part.number} with different answers: leave "
                    "one of them out."
                )
    held = results_file.own(folder)
    try:
        writer = Writer(folder, whole, new=True)
        result = Result(whole)
        for path in paths:
            for part in records.parts(path):
                if part.number not in result.done:
                    writer.add(part)
                    result.add(part)
        writer.add(TaskEnd(status=result.status, exit_code=result.code, finished=_now()))
        return result
    finally:
        held.release()


def _answered(image: Labelled, ours: Answers, theirs: Answers, row: int) -> Answered:
    def top(answers: Answers) -> list[int]:
        return [int(one) for one in answers.top[row]] if answers.finite[row] else []

    def probability(answers: Answers) -> float | None:
        return round(float(answers.probability[row]), 6) if answers.finite[row] else None

    return Answered(
        name=image.name,
        label=image.label,
        cpu=top(ours),
        device=top(theirs),
        cpu_probability=probability(ours),
        device_probability=probability(theirs),
    )


def _picture(path: Path) -> str:
    """A small copy of an image file, as JPEG in base64; "" where it is not there any more."""
    with contextlib.suppress(UsageProblem):
        return image_files.small_jpeg(image_files.read(path), _PICTURE_SIDE, _PICTURE_QUALITY)
    return ""


class _Progress:
    """Says now and then how far it is; what an earlier run did counts for no rate."""

    def __init__(self, say: Say, result: Result, now: float) -> None:
        self._say, self._result = say, result
        self._started = self._said = now
        self._before = self._done()
        self._total = result.run.total
        if self._before:
            say(f"{self._before} of {self._total} images were answered by an earlier run.")

    def _done(self) -> int:
        return self._result.counts.images + self._result.unread

    def tell(self, now: float) -> None:
        """After a part."""
        done, counts = self._done(), self._result.counts
        last = not self._result.missing
        if now - self._said < _SAY_SECONDS and not last:
            return
        self._said = now
        rate = (done - self._before) / max(now - self._started, 1e-9)
        parts = [f"{done} of {self._total} images", f"{rate:.1f} a second"]
        if counts.images:
            parts.append(
                f"Top-1 {100 * counts.cpu_right / counts.images:.2f} % on the CPU, "
                f"{100 * counts.device_right / counts.images:.2f} % on the device"
            )
        left = (self._total - done) / rate
        parts.append("done" if last else f"about {show_time(left)} left")
        self._say("; ".join(parts) + (" [EMULATED]" if self._result.run.emulated else ""))


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)
