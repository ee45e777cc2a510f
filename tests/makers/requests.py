"""Requests to a device's process that misbehave: it imports this module too."""

import dataclasses
import os
import signal
import subprocess
import time
import warnings
from collections.abc import Callable
from typing import Any

from harness.devices.device import Device
from harness.execution.reference.cache import ReferenceCacheWarning
from harness.system.status import CaseProblem, Stage, StageCallback, Status, UsageProblem


@dataclasses.dataclass(frozen=True)
class Calls:
    """Says that the forward begins, then answers with what a function returns there."""

    function: Callable[[], Any]

    def answer(self, device: Device, on_stage: StageCallback) -> Any:
        on_stage(Stage.FORWARD)
        return self.function()


@dataclasses.dataclass(frozen=True)
class Unpacks:
    """Calls a function as soon as it is unpacked in the device's process."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    def __reduce__(self):
        return self.function, self.arguments


def fails(status: Status) -> None:
    """End as a case ends that has a status."""
    raise CaseProblem(status, Stage.FORWARD, "It was to fail.") from RuntimeError("the cause")


def prints_and_aborts() -> None:
    """Print thirty lines, the last of them not in UTF-8, then abort."""
    for number in range(29):
        print(f"line {number}", flush=True)
    os.write(1, b"torn \xff\n")
    os.abort()


def hangs_with_a_child(path: str) -> None:
    """Start a process of its own, write both numbers to a file, and never answer."""
    child = subprocess.Popen(["sleep", "600"])
    with open(path + ".part", "w") as stream:
        stream.write(f"{os.getpid()} {child.pid}")
    os.replace(path + ".part", path)
    time.sleep(600)


def runs_out_of_memory() -> None:
    """As NumPy and Pillow say that there is none left."""
    raise MemoryError


def takes_all() -> int:
    """Take memory until there is no more."""
    held = []
    while True:
        held.append(bytearray(b"x") * 50_000_000)


def killed(counts: str, how: str = "SIGKILL") -> None:
    """Die by a signal, after Linux has counted one more process that it ended for memory."""
    with open(counts, "w") as stream:
        stream.write("oom_kill 7\n")
    signal.raise_signal(signal.Signals[how])


def warns() -> None:
    """Warn as the harness does, and as other packages do."""
    warnings.warn("The cache could not be used as it should.", ReferenceCacheWarning, stacklevel=1)
    warnings.warn("of torch", UserWarning, stacklevel=1)


def is_used_wrongly() -> None:
    """End as bad input does."""
    raise UsageProblem("There is no such thing.")


def answers_with_what_cannot_be_sent() -> Callable[[], None]:
    """Return what no pipe can carry."""
    return lambda: None
