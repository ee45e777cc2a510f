"""Entry point of a side's process: `python -m harness.execution.worker_main REQUESTS ANSWERS`."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import traceback
import warnings
from multiprocessing.connection import Connection
from typing import Any

from harness.system import process
from harness.system.messages import say
from harness.system.status import (
    CaseProblem,
    Stage,
    Status,
    UsageProblem,
    host_trouble,
    unforeseen,
)

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# Requests of one case follow each other at once; after the last of them there is time.
_IDLE_SECONDS = 0.02


def main(requests_descriptor: int, answers_descriptor: int) -> int:
    """Open what is asked for, then answer the requests that come over a pipe until it closes."""
    requests: Connection[Any, Any] = Connection(requests_descriptor, writable=False)
    answers: Connection[Any, Any] = Connection(answers_descriptor, readable=False)
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    opening = requests.recv()
    try:
        # Now, while the run prepares its first case.
        with process.importing():
            side = opening.open()
            from harness.system import torchvision_shim

            # Every request needs it, and until the first one comes there is time.
            with contextlib.suppress(Exception):  # a request says what is wrong with it
                torchvision_shim.import_timm()
        answers.send(("ready", None))
    except UsageProblem as problem:
        answers.send(("usage", problem.said))
        return 0
    except Exception as error:
        traceback.print_exc()
        text = " ".join(f"{type(error).__name__}: {error}".split())[:400]
        reason = say("process.unopened", "{what} could not be opened: {error}", what=opening,
                     error=text)  # fmt: skip
        answers.send(("failed", (Status.ERROR_DEVICE.value, Stage.LOAD.value, reason)))
        return 1

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if category.__module__.startswith("harness."):
            answers.send(("warning", message))  # what the harness says is for the run to show
        else:
            print(warnings.formatwarning(message, category, *where[:2]), file=sys.stderr)

    warnings.showwarning = show
    stage = Stage.LOAD

    def enter(new: Stage) -> None:
        nonlocal stage
        stage = new
        answers.send(("stage", new))

    def release() -> None:
        with contextlib.suppress(Exception):  # after a device error, which the run was told
            side.release()

    while True:
        if not requests.poll(_IDLE_SECONDS):
            process.release(release)
        try:
            request = requests.recv()
        except EOFError:
            return 0
        stage = Stage.LOAD
        try:
            result = request.answer(side, enter)
            answers.send(("result", result))
        except CaseProblem as problem:
            # Without a cause its sentence says all there is to know.
            if problem.__cause__ is not None or problem.__context__ is not None:
                traceback.print_exc()
            answers.send(("failed", (problem.status.value, problem.stage.value, problem.reason)))
        except UsageProblem as problem:
            answers.send(("usage", problem.said))
        except Exception as error:
            traceback.print_exc()
            status, reason = Status.ERROR_HARNESS, unforeseen(error)
            if process.exhausted(error):
                status, reason = (
                    Status.ERROR_OOM,
                    say(
                        "process.memory",
                        "{what}: {trouble}",
                        what=opening,
                        trouble=host_trouble(MemoryError()),
                    ),
                )
            answers.send(("failed", (status.value, stage.value, reason)))
        request = result = None


def _die_with_parent() -> None:
    """Have the kernel end this process with its parent, which may be killed while this one hangs.

    Between cases the closed pipe ends it; in the middle of one nothing else would, and the device
    would stay taken.  Linux only.
    """
    parent = os.getppid()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the kernel knew
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
