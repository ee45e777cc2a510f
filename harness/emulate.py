"""Runs any script on the emulated NPU, and reads fault plans."""

from __future__ import annotations

import fnmatch
import json
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.devices import EMULATED_MEANS
from harness.status import UsageProblem


def run_script(script: Path, arguments: Sequence[str], fault_plan: Path | None) -> int:
    """Run a Python script in this process, with the emulator in the place of CANN.

    Returns the script's exit code.  Raises UsageProblem when the script or the plan cannot be
    read or the emulator not be loaded.
    """
    from harness.devices import emulator

    if not script.is_file():
        raise UsageProblem(f"No script {script}: give the path of a Python file.")
    plan = plan_for(read_fault_plan(fault_plan)) if fault_plan else None
    os.environ.setdefault("TASK_QUEUE_ENABLE", "0")
    try:
        npu = emulator.load()
        npu.import_torch_npu()
    except emulator.EmulatorError as error:
        raise UsageProblem(str(error)) from error
    npu.set_faults(emulator.FaultPlan.from_json(plan) if plan else None)
    print(EMULATED_MEANS, file=sys.stderr)
    sys.argv = [str(script), *arguments]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def read_fault_plan(path: Path) -> str:
    """The JSON of a fault plan, checked; `plan_for` gives a case its part.  Raises UsageProblem."""
    try:
        text = path.read_text(encoding="utf-8")
        plan_for(text)
    except OSError as error:
        raise UsageProblem(f"Fault plan {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UsageProblem(f"Fault plan {path}: {error}") from error
    return text


def plan_for(text: str, case_id: str | None = None) -> str | None:
    """The faults of a plan that concern a case (None: all of them), as JSON; None without any.

    A fault's field `cases` is a glob over case ids (default: every case).  Raises ValueError for a
    plan that is wrong in any of its faults.
    """
    from harness.devices.emulator import Fault, FaultPlan

    data = json.loads(text)
    globs = []
    for fault in data.get("faults", ()) if isinstance(data, dict) else ():
        pattern = fault.pop("cases", "*") if isinstance(fault, dict) else "*"
        if not isinstance(pattern, str):
            raise ValueError(f"fault field 'cases' must be a glob over case ids, got {pattern!r}")
        globs.append(pattern)
    plan = FaultPlan.from_json(json.dumps(data))
    chosen: list[Fault] = [
        fault
        for fault, pattern in zip(plan.faults, globs, strict=True)
        if case_id is None or fnmatch.fnmatch(case_id, pattern)
    ]
    return FaultPlan(tuple(chosen)).to_json() if chosen else None
