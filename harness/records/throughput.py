"""Throughput of a case on both sides, measured fairly: the data, and the way through it.

Each batch size of each side is one question to that side's own process (`execution/batch_timing.py`
answers it there), so that what goes wrong with one costs that row alone and never the verdict.
The CPU has a process of its own for this; the two sides take turns and never run at once.
No torch here.
"""

from __future__ import annotations

import dataclasses

from harness.judgement.timing import Ratio, Summary, ratio
from harness.records.leg import MemoryUse
from harness.system import messages
from harness.system.host_use import HostUse
from harness.system.messages import Message
from harness.system.processor import HostInfo

DEFAULT_BATCHES = (1, 6, 8, 32)
DEFAULT_SECONDS = 30.0
DEFAULT_PRECISION_PERCENT = 2.0


@dataclasses.dataclass(frozen=True)
class ThroughputPlan:
    """What to measure.

    `seconds`: time for each case and side, without loading the model; `precision`: half width of
    the 95 % interval of the median latency, as a share of it, at which to stop.
    """

    batches: tuple[int, ...] = DEFAULT_BATCHES
    seconds: float = DEFAULT_SECONDS
    precision: float = DEFAULT_PRECISION_PERCENT / 100

    def __str__(self) -> str:
        batches = ",".join(map(str, self.batches))
        return f"batches {batches}, {self.seconds:g} s a side, precision {100 * self.precision:g} %"


@dataclasses.dataclass(frozen=True)
class Setting:
    """A setting of the CPU that was tried: `threads`, and the memory format of model and images.

    `seconds`: median of a forward; None when it was not `tried` or failed, `note` says why.
    """

    threads: int
    layout: str
    seconds: float | None
    note: str = ""
    tried: bool = True

    def __str__(self) -> str:
        return f"{self.threads} thread{'s' * (self.threads != 1)}, {self.layout}"


@dataclasses.dataclass(frozen=True)
class Copies:
    """Medians of synchronised copies of one batch, in seconds.

    `into`: images from the host's pageable memory to the device; `out`: all outputs back;
    `repeats`: how often each was timed.
    """

    into: float
    out: float
    repeats: int


@dataclasses.dataclass(frozen=True)
class BatchTiming:
    """One batch size on one side.

    `first_seconds`: the first forward in a fresh process or after a model was loaded, with
    whatever is compiled or built then; `warm_up`: forwards after it until the times were stable,
    `stable`: whether they became so.  `seconds`: each timed forward, in order, rounded to 0.1 us;
    `wall`: their summary, on the host's clock, synchronised before and after; `events`: the same
    forwards on the device's clock, where it has one.  `setting`: the CPU's, chosen from `search`.
    `cores`: processor seconds of the process over wall seconds of the timed calls, which shows a
    CPU that had to share, `host_use` by whom.  `spent`: seconds that all of it took, without
    loading the model.
    """

    batch_size: int
    first_seconds: float
    warm_up: int
    stable: bool
    seconds: tuple[float, ...]
    wall: Summary
    events: Summary | None
    copies: Copies | None
    memory: MemoryUse
    cores: float
    spent: float
    setting: Setting | None = None
    search: tuple[Setting, ...] = ()
    host: HostInfo | None = None
    host_use: HostUse | None = None

    @property
    def busy(self) -> bool:
        """Whether other work had so much of the host that these are no times of it."""
        return any(one is not None and one.busy for one in (self.host, self.host_use))

    @property
    def not_tried(self) -> int:
        """Settings for which the search had no time left."""
        return sum(not setting.tried for setting in self.search)

    @property
    def images_per_second(self) -> float:
        """Batch size over the mean latency: every call counts, slow ones too."""
        return self.batch_size / self.wall.mean

    @property
    def images_per_second_interval(self) -> tuple[float, float] | None:
        """95 % interval, from that of the mean latency; None where that reaches zero."""
        low, high = self.wall.mean_low, self.wall.mean_high
        if low is None or high is None or low <= 0:
            return None
        return self.batch_size / high, self.batch_size / low


@dataclasses.dataclass(frozen=True)
class Row:
    """A batch size on both sides; `..._problem` says why a side has no times.

    `..._messages`: what that says, by id.
    """

    batch_size: int
    cpu: BatchTiming | None = None
    device: BatchTiming | None = None
    cpu_problem: str = ""
    device_problem: str = ""
    cpu_messages: tuple[Message, ...] = ()
    device_messages: tuple[Message, ...] = ()

    def __post_init__(self) -> None:
        messages.put_beside(self, "cpu_problem", "cpu_messages")
        messages.put_beside(self, "device_problem", "device_messages")

    @property
    def speed_up(self) -> Ratio | None:
        """Median latency of the CPU over the device's; None where the host was busy meanwhile.

        It means nothing for an emulated device.
        """
        if self.cpu is None or self.device is None or self.cpu.busy:
            return None
        return ratio(self.cpu.wall, self.device.wall)


@dataclasses.dataclass(frozen=True)
class Throughput:
    """What a measurement gave.

    `clock`: what the device's events count; `problem`: why there are no rows, and
    `problem_messages` what that says, by id.
    """

    plan: ThroughputPlan
    rows: tuple[Row, ...] = ()
    clock: str = ""
    problem: str = ""
    problem_messages: tuple[Message, ...] = ()

    def __post_init__(self) -> None:
        messages.put_beside(self, "problem", "problem_messages")

    @property
    def host(self) -> HostInfo | None:
        """The CPU, as the first row saw it."""
        return next((row.cpu.host for row in self.rows if row.cpu is not None), None)

    def speed_up(self, batch_size: int) -> Ratio | None:
        """The speed-up at one batch size; None where that was not measured."""
        return next((row.speed_up for row in self.rows if row.batch_size == batch_size), None)

    def reached(self, timing: BatchTiming) -> bool:
        """Whether the precision that was asked for was reached."""
        return timing.wall.precision <= self.plan.precision
