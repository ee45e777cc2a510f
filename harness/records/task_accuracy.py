"""The file of a labelled run: what was run, then a line a part, then how it ended.

A part is always the same images, whoever runs it: shards and resumed runs have equal lines.  A line
is appended with one write and flushed to disk, so that a process that is killed costs the parts in
its hands.  Readers hold one part at a time.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from harness.judgement.task_accuracy import Counts
from harness.records.leg import DeviceInfo
from harness.records.results_file import LINE_BYTES, append_line, set_aside
from harness.system import environment, files, foreign
from harness.system.status import Status, UsageProblem

FILE = "task-accuracy.jsonl"
TOP = 5  # classes of an answer
_Class = Annotated[int, pydantic.Field(ge=0)]
_Top = Annotated[list[_Class], pydantic.Field(max_length=TOP)]
# Parts of one set of images may come from different hosts in these.
_FREE = ("shard", "started", "device", "weights", "environment")


class _Line(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class TaskRun(_Line):
    """The first line.

    `architecture`: with timm's tag, as timm's results name models; `classes`: names of all;
    `dataset`, `images`, `images_digest`, `mapping`, `account`: of `LabelledImages`; `part_size`:
    images in a part; `preprocessing`: timm's; `settings`: as read back from the device; `kernels`,
    `fault_plan` (hash): of the emulated NPU; `shard`: "2/3", or "".
    """

    type: Literal["task-accuracy"] = "task-accuracy"
    format: Literal[1] = 1
    model: str
    architecture: str
    weights: str
    weights_sha256: str
    classes: list[str]
    dataset: str
    images: Annotated[int, pydantic.Field(gt=0)]
    images_digest: str
    mapping: str
    account: str
    part_size: Annotated[int, pydantic.Field(gt=0)]
    batch_size: Annotated[int, pydantic.Field(gt=0)]
    dtype: str
    numerics: str
    preprocessing: dict[str, Any]
    device: DeviceInfo
    settings: dict[str, str]
    fallback: list[str]
    kernels: str
    fault_plan: str
    environment: dict[str, str]
    shard: Annotated[str, pydantic.Field(pattern=r"^([1-9]\d*/[1-9]\d*)?$")] = ""
    started: datetime.datetime

    @property
    def emulated(self) -> bool:
        """Whether the device is no evidence about hardware."""
        return self.device.emulated

    @property
    def parts(self) -> int:
        """Parts of the whole set."""
        return -(-self.images // self.part_size)

    def mine(self) -> list[int]:
        """Numbers of this shard's parts, from 0; all of them without a shard."""
        number, of = map(int, (self.shard or "1/1").split("/"))
        return list(range(number - 1, self.parts, of))

    @property
    def total(self) -> int:
        """Images of this shard; all of them without a shard."""
        ends = ((number + 1) * self.part_size for number in self.mine())
        return sum(self.part_size - max(0, end - self.images) for end in ends)

    def differs(self, other: TaskRun) -> str:
        """What keeps parts of both out of one result; "" for nothing."""
        mine, theirs = (
            {
                **{name: _short(value) for name, value in run if name not in _FREE},
                "device": f"{run.device.kind} {run.device.name}",
                **{k: v for k, v in run.environment.items() if not k.startswith(("OMP_", "MKL_"))},
            }
            for run in (self, other)
        )
        found = environment.differences(theirs, mine, "none")
        return ", ".join(f"{name} {theirs}, here {mine}" for name, theirs, mine in found)


class Answered(_Line):
    """One image that was read, and what both sides answer.

    `cpu`, `device`: their most probable classes, five at most, the most probable first, empty where
    the logits are not finite; `..._probability`: softmax of the first.
    """

    name: str
    label: _Class
    cpu: _Top
    device: _Top
    cpu_probability: Annotated[float, pydantic.Field(ge=0, le=1)] | None
    device_probability: Annotated[float, pydantic.Field(ge=0, le=1)] | None

    @property
    def cpu_right(self) -> bool:
        """Whether the CPU's Top-1 is the label."""
        return self.cpu[:1] == [self.label]

    @property
    def device_right(self) -> bool:
        """Whether the device's Top-1 is the label."""
        return self.device[:1] == [self.label]

    @property
    def flipped(self) -> bool:
        """Whether the sides' Top-1 differ."""
        return self.cpu[:1] != self.device[:1]

    @property
    def counts(self) -> Counts:
        """As counts of one image."""
        return Counts(
            images=1,
            cpu_right=self.cpu_right,
            device_right=self.device_right,
            both_right=self.cpu_right and self.device_right,
            cpu_top5=self.label in self.cpu,
            device_top5=self.label in self.device,
            agree=not self.flipped,
            cpu_broken=not self.cpu,
            device_broken=not self.device,
        )


class Unread(_Line):
    """One image that could not be read, and why; it counts on neither side."""

    name: str
    label: _Class
    reason: str


class Part(_Line):
    """One part.

    `pictures`: images that flip, by name, as JPEG in base64; `fault_effects`: how often each
    planned fault had an effect.
    """

    type: Literal["part"] = "part"
    number: Annotated[int, pydantic.Field(ge=0)]
    answered: list[Answered]
    unread: list[Unread] = []
    pictures: dict[str, str] = {}
    fault_effects: list[int] = []

    @property
    def classes(self) -> set[int]:
        """Every class that it names."""
        known = {label for one in self.answered for label in (one.label, *one.cpu, *one.device)}
        return known | {one.label for one in self.unread}


class TaskEnd(_Line):
    """The last line; `peak_bytes`: greatest resident set by process, of those that ran last."""

    type: Literal["end"] = "end"
    status: Status
    exit_code: int
    finished: datetime.datetime
    peak_bytes: dict[str, int] = {}


_AnyLine = Annotated[TaskRun | Part | TaskEnd, pydantic.Field(discriminator="type")]
_ADAPTER: pydantic.TypeAdapter[TaskRun | Part | TaskEnd] = pydantic.TypeAdapter(_AnyLine)


class Writer:
    """Appends to the results file of a folder."""

    def __init__(self, folder: Path, run: TaskRun, *, new: bool) -> None:
        """`new`: begin with `run`; an earlier file moves to previous/.  Raises UsageProblem."""
        self.path = folder / FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if new and self.path.exists():
                set_aside(self.path)
                self.path.unlink()
        except OSError as error:
            raise UsageProblem(
                f"Cannot write results to {folder} ({error.strerror}): give --results DIR."
            ) from error
        if new:
            self.add(run)

    def add(self, line: TaskRun | Part | TaskEnd) -> None:
        """Append one line and force it to disk.  Raises UsageProblem when the disk is full."""
        append_line(self.path, line.model_dump_json().encode() + b"\n")


def file_of(path: Path) -> Path:
    """A results file, from itself or its folder."""
    return path / FILE if path.is_dir() else path


def read_run(path: Path) -> TaskRun:
    """The first line of a results file, or of the one in a folder.  Raises UsageProblem."""
    first = next(_lines(file_of(path)), None)
    if not isinstance(first, TaskRun):
        raise UsageProblem(f"{file_of(path)} holds no labelled run: its first line is missing.")
    return first


def parts(path: Path) -> Iterator[Part]:
    """The parts of a results file, or of the one in a folder, each once, in the file's order.

    A line that a killed process left torn is passed over.  Raises UsageProblem for a damaged line,
    a part or a class that the run does not have, and a part that is there twice with different
    answers.
    """
    run = read_run(path)
    seen: dict[int, str] = {}
    for line in _lines(file_of(path)):
        if not isinstance(line, Part):
            continue
        if line.number >= run.parts:
            raise UsageProblem(f"{file_of(path)} holds part {line.number}, the run has fewer.")
        if max(line.classes, default=0) >= len(run.classes):
            raise UsageProblem(
                f"{file_of(path)}, part {line.number} names a class that the run does not have."
            )
        digest = files.sha256_json(line.model_dump(mode="json"))
        if line.number not in seen:
            seen[line.number] = digest
            yield line
        elif seen[line.number] != digest:
            raise UsageProblem(
                f"{file_of(path)} holds part {line.number} twice with different answers."
            )


def read_end(path: Path) -> TaskEnd | None:
    """The last line of a results file that was ended."""
    last = None
    for line in _lines(file_of(path)):
        last = line
    return last if isinstance(last, TaskEnd) else None


def _lines(path: Path) -> Iterator[TaskRun | Part | TaskEnd]:
    try:
        with foreign.open_regular(path) as stream:
            for number in itertools.count(1):
                line = stream.readline(LINE_BYTES)
                if not line:
                    return
                try:
                    found = foreign.loads(line)
                except ValueError:  # what a killed process left
                    continue
                try:
                    yield _ADAPTER.validate_python(found)
                except pydantic.ValidationError as error:
                    first = error.errors()[0]
                    where = ".".join(map(str, first["loc"]))
                    raise UsageProblem(
                        f"{path}, line {number}: {where}: {first['msg']}."
                    ) from error
    except OSError as error:
        raise UsageProblem(
            f"{path} cannot be read ({error.strerror or error}): give a file or folder that "
            "`python -m harness task-accuracy run --results DIR` wrote."
        ) from error


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({files.sha256_json(text)[:8]})"
