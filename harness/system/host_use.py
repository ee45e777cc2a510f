"""How much of the host other work had while something was timed.  Linux alone tells; no torch here.

    meter = HostMeter()
    with meter:
        forward()
    meter.found()

Three signs, each over the timed intervals alone and the processors that this process may use:

waited   time that this process' threads were ready and had no processor (schedstat), over the time
         that they ran or waited: others had the processor, or a limit of the container held them
steal    time that the hypervisor gave to others (/proc/stat)
others   processor time of other processes (/proc/stat less this process' own), over all there was;
         it also slows who never waits, by shared caches, memory and hardware threads
"""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from types import TracebackType

from harness.system import processor

# A forward that waits for a share w takes 1 / (1 - w) of its time: at 5 % the speed-up is wrong by
# as much, which is also how far two windows of a warm-up may differ.
WAITED_LIMIT = STEAL_LIMIT = 0.05
# A quarter of the processors, as for the load (`processor.BUSY_LOAD`).
OTHERS_LIMIT = 0.25

_PROC = Path("/proc")
_SYSTEM = Path("/sys/devices/system/cpu")


@dataclasses.dataclass(frozen=True)
class HostUse:
    """What others had of the host, as shares of 1; None where the system does not tell.

    `load`: average over one minute when it began; `waited`, `steal`, `others`: see above;
    `megahertz_low`, `megahertz_high`: mean clock of the processors at its slowest and its fastest;
    `seconds`: length of all intervals together.
    """

    load: float
    seconds: float
    waited: float | None = None
    steal: float | None = None
    others: float | None = None
    megahertz_low: float | None = None
    megahertz_high: float | None = None

    @property
    def busy(self) -> bool:
        """Whether so much was taken that a time measured here is none of this CPU."""
        return (
            (self.waited or 0.0) > WAITED_LIMIT
            or (self.steal or 0.0) > STEAL_LIMIT
            or (self.others or 0.0) > OTHERS_LIMIT
        )


@dataclasses.dataclass(frozen=True)
class _Reading:
    wall: float
    own: float  # processor seconds of this process
    waited: float | None  # seconds
    stolen: float | None
    used: float | None  # by whomever


class HostMeter:
    """Adds up what others had of the host during the intervals that it is entered for."""

    def __init__(self) -> None:
        self._cpus = processor.affinity()
        self._load = os.getloadavg()[0]
        self._start: _Reading | None = None
        self._parts: list[tuple[_Reading, _Reading]] = []
        self._clocks: list[float] = []

    def __enter__(self) -> None:
        if not self._parts:
            self._clocks += _megahertz(self._cpus)
        self._start = self._read()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._start is not None
        self._parts.append((self._start, self._read()))

    def found(self) -> HostUse | None:
        """What it measured; None when it was never entered."""
        if not self._parts:
            return None
        self._clocks += _megahertz(self._cpus)
        wall = self._sum("wall") or 0.0
        own, waited = self._sum("own") or 0.0, self._sum("waited")
        stolen, used = self._sum("stolen"), self._sum("used")
        whole = wall * len(self._cpus)
        others = None
        if used is not None and whole > 0:
            # The system counts in ticks: what may be one more on each processor is no evidence.
            coarse = len(self._cpus) / _ticks()
            others = max(0.0, used - own - coarse) / whole
        ready = own + (waited or 0.0)
        return HostUse(
            load=self._load,
            seconds=wall,
            waited=None if waited is None or ready <= 0 else waited / ready,
            steal=None if stolen is None or whole <= 0 else stolen / whole,
            others=others,
            megahertz_low=min(self._clocks, default=None),
            megahertz_high=max(self._clocks, default=None),
        )

    def _sum(self, name: str) -> float | None:
        total = 0.0
        for start, end in self._parts:
            first, last = getattr(start, name), getattr(end, name)
            if first is None or last is None:
                return None
            total += max(0.0, last - first)
        return total

    def _read(self) -> _Reading:
        stolen, used = _processors(self._cpus)
        return _Reading(time.perf_counter(), time.process_time(), _waited(), stolen, used)


def _waited() -> float | None:
    """Seconds that the threads of this process were ready to run and did not."""
    total, seen = 0, False
    try:
        for task in os.listdir(_PROC / "self" / "task"):
            fields = _text(_PROC / "self" / "task" / task / "schedstat").split()
            if len(fields) == 3:
                total, seen = total + int(fields[1]), True
    except (OSError, ValueError):
        return None
    return total / 1e9 if seen else None


def _processors(cpus: tuple[int, ...]) -> tuple[float | None, float | None]:
    """Seconds stolen from, and used of, these processors since the system began."""
    names = {f"cpu{number}" for number in cpus}
    rows = [line.split() for line in _text(_PROC / "stat").splitlines()]
    # user nice system idle iowait irq softirq steal guest guest_nice; guests are in user and nice
    found = [list(map(int, row[1:9])) for row in rows if row and row[0] in names and len(row) > 8]
    if not found:
        return None, None
    used = sum(sum(row[:3]) + row[5] + row[6] for row in found)
    return sum(row[7] for row in found) / _ticks(), used / _ticks()


def _megahertz(cpus: tuple[int, ...]) -> list[float]:
    """The processors' mean clock now, as a list of one; empty where the system does not tell."""
    kilohertz = [_text(_SYSTEM / f"cpu{cpu}" / "cpufreq" / "scaling_cur_freq") for cpu in cpus]
    values = [float(text) / 1e3 for text in kilohertz if text.strip().isdigit()]
    if not values:
        lines = _text(_PROC / "cpuinfo").splitlines()
        values = [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
    return [sum(values) / len(values)] if values else []


def _ticks() -> int:
    return os.sysconf("SC_CLK_TCK")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
