"""Requests to a device's process that misbehave: it imports this module too."""

import dataclasses
import os
import subprocess
import time
from collections.abc import Callable
from typing import Any

from harness.devices.device import Device
from harness.system.status import CaseProblem, Stage, StageCallback, Status


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
    raise CaseProblem(status, Stage.FORWARD, "It was to fail.")


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


def answers_with_what_cannot_be_sent() -> Callable[[], None]:
    """Return what no pipe can carry."""
    return lambda: None
