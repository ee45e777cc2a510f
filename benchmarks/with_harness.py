"""Jobs by this harness: a case each, judged as in any run.

It catches a fault when the status is one of those that blame the device (fail_..., flaky, error);
`inconclusive` is none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import harness  # noqa: F401  (before torch)
from benchmarks import planted
from benchmarks.planted import Answer, Job


def work(model: Path, images: Path, folder: Path, jobs: Sequence[Job]) -> list[Answer]:
    """Run all jobs; the harness makes the same images itself, from their seeds."""
    from harness.devices.choice import choose
    from harness.execution.settings import RunSettings
    from harness.execution.sides import Sides
    from harness.runs.runner import CaseRunner
    from harness.system.status import Status

    settings = RunSettings(
        choose("npu-emulated").spec,
        folder,
        localize="never",
        reference_cache_size=10**9,
    )
    # Without a file of results: in one the worst verdict of a case stands, whatever was planted.
    runner = CaseRunner(Sides(settings))
    found = []
    try:
        for job in jobs:
            runner.sides.settings = dataclasses.replace(settings, fault_plan=job.plan)
            record = runner.run(planted.case(model, job))
            caught = record.status not in (Status.PASS, Status.INCONCLUSIVE)
            gate = record.gate
            said = record.status.value
            if gate is not None:
                said += f" (protocol's gate: {'passed' if gate.passed else 'failed'})"
            found.append(Answer(job.name, job.numerics, job.seed, caught, said))
    finally:
        runner.close()
    return found


if __name__ == "__main__":
    planted.answer(work)
