"""Runs any script on the emulated NPU, and reads fault plans."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.devices import emulated_kernels, emulation
from harness.devices.fault_plan import plan_for, read_fault_plan
from harness.devices.spec import EMULATED_MEANS, DeviceSpec
from harness.system.status import UsageProblem


def run_script(
    script: Path,
    arguments: Sequence[str],
    fault_plan: Path | None,
    kernels: str | None = None,
) -> int:
    """Run a Python script in this process, with the emulator in the place of CANN.

    `kernels`: name of the emulator's; None: those that a reproducer was found with.  It also says
    in which module, for faults that name one.  Returns the script's exit code.  Raises UsageProblem
    when there are no such kernels, the script or the plan cannot be read or the emulator not be
    loaded.
    """
    from harness.devices import emulator
    from harness.devices.fault_plan import FaultPlan

    if not os.path.isfile(script):
        raise UsageProblem(f"No script {script}: give the path of a Python file.")
    try:
        named, module = emulation.read(script)
    except OSError as error:
        raise UsageProblem(f"The script {script} cannot be read: {error.strerror}.") from error
    kernels = named if kernels is None else kernels
    plan = plan_for(read_fault_plan(fault_plan)) if fault_plan else None
    emulated_kernels.check_for(kernels, DeviceSpec("npu-emulated"))
    os.environ.setdefault("TASK_QUEUE_ENABLE", "0")
    try:
        npu = emulator.load()
        npu.import_torch_npu()
    except emulator.EmulatorError as error:
        raise UsageProblem(str(error)) from error
    npu.set_kernels(kernels)
    npu.set_module(module)
    npu.set_faults(FaultPlan.from_json(plan) if plan else None)
    print(f"{EMULATED_MEANS} (kernels {kernels})", file=sys.stderr)
    sys.argv = [str(script), *arguments]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0
