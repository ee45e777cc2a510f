"""Fixtures: one emulator with two devices in the pytest process, and subprocesses for the rest.

A process loads the emulator once, with one set of options, and is not to be trusted after a device
error: tests that need other options or that break the process run a script in their own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

# Threads that spin while they wait make the survey three times slower on a busy machine.  OpenMP
# reads this when torch is loaded: it helps where this file comes before any import of torch.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import harness  # noqa: F401  (before torch)
from harness.devices import emulated_kernels, emulator

_PRELUDE = """
import json, os, sys, warnings
warnings.simplefilter("ignore")
import harness
from harness.devices import emulator
from harness.devices.fault_plan import Fault, FaultPlan
npu = emulator.load(emulator.EmulatorOptions(**{options!r}))
npu.import_torch_npu()
import torch
def answer(value):
    print("ANSWER " + json.dumps(value), flush=True)
"""


class Script:
    """What a script in a process of its own did."""

    def __init__(self, process: subprocess.CompletedProcess[str]) -> None:
        self.code = process.returncode
        self.text = process.stdout + process.stderr
        self.answers = [
            json.loads(line.removeprefix("ANSWER "))
            for line in process.stdout.splitlines()
            if line.startswith("ANSWER ")
        ]

    @property
    def answer(self) -> Any:
        """The only answer; shows the output when there is none."""
        assert len(self.answers) == 1, self.text
        return self.answers[0]


@pytest.fixture(scope="session")
def run_script() -> Callable[..., Script]:
    """Runs Python code on an emulator of its own; the code calls ``answer(value)``."""

    def run(
        code: str,
        *,
        options: dict[str, object] | None = None,
        environment: dict[str, str] | None = None,
        timeout: float = 120,
    ) -> Script:
        script = _PRELUDE.format(options=options or {}) + textwrap.dedent(code)
        process = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, "TASK_QUEUE_ENABLE": "0", **(environment or {})},
        )
        return Script(process)

    return run


@pytest.fixture(scope="session")
def loaded_npu() -> emulator.Emulator:
    """The emulator of the pytest process."""
    os.environ["TASK_QUEUE_ENABLE"] = "0"
    npu = emulator.load(emulator.EmulatorOptions(count=2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        npu.import_torch_npu()
        import torch

        torch.ones(1).npu()  # initialises the device, with its one-time warnings
        torch.npu.conv.allow_hf32 = torch.npu.matmul.allow_hf32 = False
    return npu


@pytest.fixture
def cann(loaded_npu: emulator.Emulator) -> Iterator[emulator.Emulator]:
    """The emulator as a run has it: its default kernels, no faults, counters at 0."""
    loaded_npu.set_faults(None)
    loaded_npu.set_kernels()
    loaded_npu.reset_counters()
    yield loaded_npu
    loaded_npu.set_faults(None)
    loaded_npu.set_kernels()


@pytest.fixture
def npu(cann: emulator.Emulator) -> emulator.Emulator:
    """The same with the CPU's own kernels, for what is right to the last bit."""
    cann.set_kernels(emulated_kernels.ATEN)
    return cann


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let torch_npu say once per process that internal formats are off: that is what we set."""
    mark = pytest.mark.filterwarnings("ignore:Cannot create tensor with internal format")
    for item in items:
        if "emulator" in item.path.parts:
            item.add_marker(mark)
