"""Where it goes wrong: own and inherited error of every operator, in one streaming pass.

The reference model runs once on the CPU.  After each of its operators

- the device runs the same operator on the reference's input: its **own error**, judged as in
  `operators/comparison.py`, and the only one that names a culprit;
- the device runs it on what the device itself made of everything before: its **inherited error**,
  rms(device - reference), the error that the model's own forward pass has there;
- the CPU does the latter in the declared arithmetic: the **inherited budget**, what honest
  rounding has grown to by then.  Where float32 itself is declared, the last bit of all factors of
  convolutions and matrix products is rounded away instead: an error of float32's own size.

Operators are what a dispatch mode sees, so that functional calls between modules, operators
inside a module and modules that are called several times each have their rows.  No side runs ahead,
hence no activation lives longer than it does in a forward pass of the model.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.execution.legs import LegRequest
from harness.judgement import arithmetic
from harness.judgement.localization import Localization
from harness.system.status import Stage, StageCallback

if TYPE_CHECKING:
    from harness.devices.device import Device


@dataclasses.dataclass(frozen=True)
class LocalizeRequest:
    """What to localise.

    `leg`: the device's leg; `start`, `stop`: its images that go through the pass, as one batch;
    `way`: how, as `batchings.WAYS` names it: "permuted" in reverse order, "alone" one image, "full"
    repeated to fill the leg's batch, "" as they are;
    `numerics`: as that leg's record has them; `repeats`: runs of every operator on the device;
    `directory`: where reproducers go, None for none.
    """

    leg: LegRequest
    start: int
    stop: int
    numerics: Mapping[str, str]
    way: str = ""
    repeats: int = 1
    directory: Path | None = None

    def answer(self, device: Device, on_stage: StageCallback) -> Localized:
        """Localise in a device's process; as `run`."""
        return run(device, self, on_stage)


@dataclasses.dataclass(frozen=True)
class Localized:
    """What a pass gave: rows, and the device's outputs at its end, name -> float32 [N, ...]."""

    localization: Localization
    outputs: dict[str, np.ndarray[Any, Any]]


def run(device: Device, request: LocalizeRequest, on_stage: StageCallback) -> Localized:
    """Localise on an opened device.  Raises CaseProblem when it fails."""
    from harness.execution.operators import reproducer  # these bring torch in
    from harness.execution.operators.trace import OnRow, check, trace

    started = time.perf_counter()
    leg = request.leg
    on_stage(Stage.LOAD)
    device.plant(leg.fault_plan)
    numerics = device.apply_numerics(leg.numerics)
    declared = arithmetic.declared(leg.dtype, request.numerics)
    model = leg.model.load().model
    samples = leg.inputs.load().rows(slice(request.start, request.stop))
    count = len(samples)
    if request.way == "permuted":
        samples = samples.backwards()
    elif request.way == "full":
        samples = samples.filled(leg.batch_size)
    on_stage(Stage.FORWARD)
    scripts = None
    if request.directory is not None:
        described = device.describe()
        scripts = reproducer.Reproducers(described, declared, numerics, request.directory)
    on_row: OnRow = scripts.consider if scripts else lambda call, row: None
    ends: dict[str, np.ndarray[Any, Any]] = {}
    restarts = 0
    with device.watching(model):
        if declared.autocast is not None or declared.promoted:
            # The device's own forward pass is not followed: every operator's own error alone.
            rows = check(model, samples, device, declared, repeats=request.repeats, on_row=on_row)
        else:
            rows, ends, restarts = trace(
                model, samples, device, declared, repeats=request.repeats, on_row=on_row
            )
    return Localized(
        Localization(
            arithmetic=str(declared),
            full=declared.full,
            start=request.start,
            stop=request.start + count,
            way=request.way,
            rows=tuple(rows),
            repeats=request.repeats,
            restarts=restarts,
            reproducers=tuple(scripts.written) if scripts else (),
            note=scripts.problem if scripts else "",
            seconds=time.perf_counter() - started,
        ),
        {name: end[::-1] if request.way == "permuted" else end for name, end in ends.items()},
    )
