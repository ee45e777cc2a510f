"""Which device a run takes, and why.  Imports neither torch nor torch_npu."""

from __future__ import annotations

import dataclasses

from harness.devices import npu_probe
from harness.devices.spec import DeviceSpec, parse


@dataclasses.dataclass(frozen=True)
class Choice:
    """The device that a run takes, why, and what it computes with where it is emulated."""

    spec: DeviceSpec
    reason: str
    kernels: str = ""

    def __str__(self) -> str:
        kernels = f", kernels {self.kernels}" if self.spec.emulated and self.kernels else ""
        return f"{self.spec}{kernels} ({self.reason}){self.spec.caveat}"


def choose(text: str) -> Choice:
    """Settle the device: `auto` takes a real NPU, else the emulated one, never the CPU.

    Raises UsageProblem, with the remedy, when the device asked for is not there.
    """
    if text.strip() != "auto":
        spec = parse(text)
        if spec.kind == "npu":
            npu_probe.require(spec.index)
        elif spec.emulated:
            npu_probe.require_torch_npu()
        return Choice(spec, "asked for with --device")
    found = npu_probe.probe()
    if found.devices:
        return Choice(DeviceSpec("npu"), f"auto: {found.devices} NPU(s) found")
    npu_probe.require_torch_npu()
    return Choice(DeviceSpec("npu-emulated"), f"auto: no NPU here ({found.short})")
