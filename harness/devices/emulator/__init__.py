"""An emulated Ascend NPU: the real torch_npu on a stand-in for CANN that computes on the host.

Usage, in a process that has not imported torch_npu::

    from harness.devices import emulator
    npu = emulator.load(emulator.EmulatorOptions(count=2))
    npu.import_torch_npu()
    torch.ones(3).npu() + 1

What it shows: that models, operators and data reach the device and come back as torch_npu sends
them, with fp32, HF32, fp16 and bf16 arithmetic of the matrix unit and planned faults.  What it
cannot show: an NPU's own rounding in other operators, its limits, speed or memory use.  Results
obtained on it have to be labelled EMULATED.

Set TASK_QUEUE_ENABLE=0 before torch_npu is imported to have errors raised where they happen; after
an error a process is not to be trusted, as on a real NPU.
"""

from harness.devices.emulator.build import TRIED_TORCH_NPU, default_cache_dir, ensure_built
from harness.devices.emulator.errors import EmulatorError, MissingSymbol
from harness.devices.emulator.loader import (
    MARKER,
    EmulatedMemory,
    Emulator,
    EmulatorOptions,
    is_emulated,
    load,
    loaded,
)

__all__ = [
    "MARKER",
    "TRIED_TORCH_NPU",
    "Emulator",
    "EmulatorError",
    "EmulatorOptions",
    "EmulatedMemory",
    "MissingSymbol",
    "default_cache_dir",
    "ensure_built",
    "is_emulated",
    "load",
    "loaded",
]
