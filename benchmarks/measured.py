"""Processes measured from outside, ratios of what they cost, and tables of the outcome."""

from __future__ import annotations

import dataclasses
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from harness.system import processor

ROOT = Path(__file__).parents[1]
_INTERVAL = 0.1  # least seconds between two looks at the memory of a process tree
# And at least so many times what a look takes: it stops processes that ask for memory, and one at
# several GB takes a twentieth of a second.
_PAUSE = 30


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a process and all that it started took.

    `wall`, `processor`: seconds; `memory`: greatest sum of proportional set sizes seen, in bytes
    (shared pages count once); `disk`: bytes of the files that it left in the folder given to it.
    """

    wall: float
    processor: float
    memory: int
    disk: int
    output: str


class Failed(Exception):
    """A measured process ended with another exit code than wanted; the text is its output."""


def run(
    command: Sequence[str],
    folder: Path,
    *,
    variables: Mapping[str, str] | None = None,
    codes: Sequence[int] = (0,),
) -> Cost:
    """Run a command in the repository and measure it; `folder` is where it leaves its files.

    Processor seconds are those of ended children, theirs included, so that nothing else may be
    started meanwhile.  Raises Failed on an exit code that is not among `codes`.
    """
    files = size(folder)
    before, started = os.times(), time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(variables or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    watch = _Memory(process.pid)
    watch.start()
    output, _ = process.communicate()
    wall, after = time.perf_counter() - started, os.times()
    watch.stop()
    if process.returncode not in codes:
        raise Failed(f"{' '.join(command)} ended with {process.returncode}:\n{output}")
    return Cost(
        wall=wall,
        processor=sum(after[2:4]) - sum(before[2:4]),
        memory=watch.peak,
        disk=size(folder) - files,
        output=output,
    )


class _Memory(threading.Thread):
    """Looks at the memory of a process tree again and again and keeps the greatest sum."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self._pid = pid
        self._ended = threading.Event()

    def run(self) -> None:
        taken = 0.0
        while not self._ended.wait(max(_INTERVAL, _PAUSE * taken)):
            started = time.perf_counter()
            self.peak = max(self.peak, tree_memory(self._pid))
            taken = time.perf_counter() - started

    def stop(self) -> None:
        self._ended.set()
        self.join()


def tree_memory(pid: int) -> int:
    """Proportional set sizes of a process and all its descendants, in bytes; 0 when it is gone."""
    try:
        root = psutil.Process(pid)
        tree = [root, *root.children(recursive=True)]
    except psutil.Error:
        return 0
    total = 0
    for process in tree:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:  # it ended meanwhile
            continue
    return total


def size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


@dataclasses.dataclass(frozen=True)
class Ratio:
    """How two costs compare, from runs in alternation: medians over the rounds, and each round."""

    wall: float
    walls: tuple[float, ...]
    processor: float

    @property
    def range(self) -> str:
        """The least and the greatest ratio of wall seconds."""
        return f"{min(self.walls):.2f} to {max(self.walls):.2f}"


def ratio(costs: Sequence[Cost], others: Sequence[Cost]) -> Ratio:
    """Median over rounds of cost / other; the two of a round ran one after the other."""
    walls = [one.wall / other.wall for one, other in zip(costs, others, strict=True)]
    processor = [one.processor / other.processor for one, other in zip(costs, others, strict=True)]
    return Ratio(statistics.median(walls), tuple(walls), statistics.median(processor))


@dataclasses.dataclass(frozen=True)
class Target:
    """One measured figure beside what is wanted of it.

    `wanted`: at most this, None where only the committed figure counts; `ratios`: the figure in
    each round, where it is a ratio (gate.py).
    """

    what: str
    measured: float
    wanted: float | None
    unit: str = ""
    detail: str = ""
    ratios: tuple[float, ...] = ()

    @property
    def met(self) -> bool:
        """Whether the figure is at most what is wanted."""
        return self.wanted is None or self.measured <= self.wanted

    @property
    def row(self) -> tuple[str, ...]:
        """The row of a table."""
        return (
            self.what,
            f"{self.measured:.3g}{self.unit}",
            "" if self.wanted is None else f"{self.wanted:g}{self.unit}",
            "" if self.wanted is None else "yes" if self.met else "NO",
            self.detail,
        )


TARGET_HEADER = ("what", "measured", "wanted at most", "met", "how")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine() -> str:
    """The processor, its cores and load, and what matters for its speed."""
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    load = os.getloadavg()[0]
    return (
        f"{processor.name()}, {len(processor.affinity())} cores, load {load:.1f} at the start, "
        f"OMP_NUM_THREADS {threads}, Python {platform.python_version()}"
    )


def python(*arguments: str) -> list[str]:
    """A command of this Python."""
    return [sys.executable, *arguments]
