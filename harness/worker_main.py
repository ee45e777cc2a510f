"""Entry point of a device's process: `python -m harness.worker_main FD`."""

from __future__ import annotations

import signal
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

from harness.status import CaseProblem, Stage, Status, UsageProblem


def main(descriptor: int) -> int:
    """Open the device, then answer the requests that come over the pipe until it closes."""
    pipe: Connection[Any, Any] = Connection(descriptor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    spec = pipe.recv()

    from harness import devices, legs, localize

    try:
        device = devices.open_device(spec)
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
            answer = localize.run if isinstance(request, localize.LocalizeRequest) else legs.run
            result = answer(device, request, lambda stage: pipe.send(("stage", stage)))
            pipe.send(("result", result))
        except CaseProblem as problem:
            traceback.print_exc()
            pipe.send(("failed", (problem.status.value, problem.stage.value, problem.reason)))
        except Exception as error:
            traceback.print_exc()
            reason = f"The harness itself failed: {type(error).__name__}: {error}"
            pipe.send(("failed", (Status.ERROR_HARNESS.value, Stage.FORWARD.value, reason)))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
