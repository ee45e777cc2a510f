"""Entry point of a device's process: `python -m harness.execution.worker_main FD`."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

from harness.system import process
from harness.system.status import CaseProblem, Stage, Status, UsageProblem

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(descriptor: int) -> int:
    """Open the device, then answer the requests that come over the pipe until it closes."""
    pipe: Connection[Any, Any] = Connection(descriptor)
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    spec, kernels = pipe.recv()
    if spec.kind == "cpu":
        # Not installed, as far as others ask: transformers imports it, which fails without CANN.
        sys.modules.setdefault("torch_npu", None)  # type: ignore[arg-type]

    # Now, while the run prepares its first case.
    with process.importing():
        from harness.devices.opening import open_device
        from harness.system import torchvision_shim

    try:
        with process.importing():
            device = open_device(spec, kernels)
        # Every request needs it, and until the first one comes there is time.
        with contextlib.suppress(Exception):  # a request says what is wrong with it
            torchvision_shim.import_timm()
        pipe.send(("ready", device.describe()))
    except UsageProblem as problem:
        pipe.send(("unavailable", str(problem)))
        return 0
    except Exception as error:
        traceback.print_exc()
        text = " ".join(f"{type(error).__name__}: {error}".split())[:400]
        reason = f"{spec} could not be opened: {text}"
        pipe.send(("failed", (Status.ERROR_DEVICE.value, Stage.LOAD.value, reason)))
        return 1

    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return 0
        try:
            result = request.answer(device, lambda stage: pipe.send(("stage", stage)))
            pipe.send(("result", result))
        except CaseProblem as problem:
            traceback.print_exc()
            pipe.send(("failed", (problem.status.value, problem.stage.value, problem.reason)))
        except Exception as error:
            traceback.print_exc()
            reason = f"The harness itself failed: {type(error).__name__}: {error}"
            pipe.send(("failed", (Status.ERROR_HARNESS.value, Stage.FORWARD.value, reason)))
        request = result = None
        process.release()


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
    sys.exit(main(int(sys.argv[1])))
