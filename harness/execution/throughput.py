"""Times both sides of a case, batch by batch in turns."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from harness.execution.batch_timing import MeasureRequest
from harness.records.throughput import BatchTiming, Row, Throughput, ThroughputPlan
from harness.system.messages import Said, say
from harness.system.status import CaseProblem, Status

if TYPE_CHECKING:
    from harness.execution.legs import LegRequest
    from harness.execution.worker import DeviceWorker


class _Side:
    """One side's process, and what is left of its time."""

    def __init__(self, worker: DeviceWorker, plan: ThroughputPlan, timeout: float) -> None:
        self.worker = worker
        self.plan = plan
        self.timeout = timeout
        self.left = plan.seconds
        self.ended = Said("")  # why nothing more is asked

    def ask(self, leg: LegRequest, batch_size: int, rows: int) -> tuple[BatchTiming | None, Said]:
        """Measure one batch size; `rows`: how many share the time that is left."""

        if self.ended:
            return None, self.ended
        share = max(self.left, 0.0) / rows
        request = MeasureRequest(leg, batch_size, share, self.plan.precision)
        began = time.monotonic()
        try:
            found = self.worker.ask(request, share + self.timeout)
        except CaseProblem as problem:
            self.left -= min(share, time.monotonic() - began)
            text = say("batch.ended", "{status}: {reason}", status=problem.status.value,
                       reason=problem.reason)  # fmt: skip
            # A batch that is too large says nothing about the others; a hang would cost each of
            # them the time limit, and a crash is likely to come again.
            if problem.status is not Status.ERROR_OOM:
                self.ended = say(
                    "batch.after",
                    "not measured: batch {size} ended as {status}",
                    size=batch_size,
                    status=problem.status.value,
                )
            return None, text
        self.left -= found.spent
        return found, Said("")


def measure(
    plan: ThroughputPlan,
    leg: LegRequest,
    cpu: DeviceWorker,
    device: DeviceWorker,
    timeout: float,
) -> Throughput:
    """Measure both sides, batch by batch in turns.

    `leg`: the device's; the CPU's is the same without its settings.  `timeout`: seconds beyond the
    time that is asked for until a side counts as hanging.  What goes wrong is in the rows.
    """
    sides = (_Side(cpu, plan, timeout), _Side(device, plan, timeout))
    rows = []
    for number, batch_size in enumerate(plan.batches):
        left = len(plan.batches) - number
        ours, cpu_problem = sides[0].ask(leg.on_cpu(), batch_size, left)
        theirs, device_problem = sides[1].ask(leg, batch_size, left)
        rows.append(Row(batch_size, ours, theirs, cpu_problem, device_problem))
    return Throughput(plan, tuple(rows), clock=_clock(device.device.kind))


def _clock(kind: str) -> str:
    """What the events of a kind of device count."""
    return {
        "cpu": "none, a CPU has no events",
        "npu-emulated": "of the emulator, which is that of the host",
    }.get(kind, "of the device itself")
