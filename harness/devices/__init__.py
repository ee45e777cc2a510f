"""Devices behind one small protocol.

`parse` reads what the user wrote, `choose` settles `auto` and says why, `open_device` opens the
device in the calling process.  Importing this module imports neither torch nor torch_npu.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from harness.devices import npu_probe, visible
from harness.status import UsageProblem

if TYPE_CHECKING:
    from harness.devices.base import Device

KINDS = ("cpu", "npu", "npu-emulated", "cuda")
EMULATED_DEVICES = 8  # how many devices the emulator shows
# The one sentence about results of an emulated device.
EMULATED_MEANS = "EMULATED: no evidence about NPU hardware"
CAVEAT = f" - {EMULATED_MEANS}"


@dataclasses.dataclass(frozen=True)
class DeviceSpec:
    """A device as asked for: its kind and its index among the visible devices."""

    kind: str
    index: int = 0

    @property
    def emulated(self) -> bool:
        """Whether results of this device are EMULATED, no evidence about hardware."""
        return self.kind == "npu-emulated"

    @property
    def caveat(self) -> str:
        """What has to stand behind a line that names this device; "" for a real one."""
        return CAVEAT if self.emulated else ""

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"


@dataclasses.dataclass(frozen=True)
class Choice:
    """The device that a run takes, and why."""

    spec: DeviceSpec
    reason: str

    def __str__(self) -> str:
        return f"{self.spec} ({self.reason}){self.spec.caveat}"


def parse(text: str) -> DeviceSpec:
    """Read "npu", "npu:1", "npu-emulated", "cuda:0", "cpu".

    Raises UsageProblem for anything else; "auto" is settled by `choose`.
    """
    match = re.fullmatch(r"([a-z-]+)(?::(\d+))?", text.strip())
    if not match or match[1] not in KINDS or (match[1] == "cpu" and match[2]):
        raise UsageProblem(
            f"Unknown device {text!r}: give one of auto, {', '.join(KINDS)}; npu, npu-emulated "
            "and cuda take an index, as in npu:1."
        )
    spec = DeviceSpec(match[1], int(match[2] or 0))
    if spec.emulated and spec.index >= (count := len(visible.emulated_ids(EMULATED_DEVICES))):
        raise UsageProblem(
            f"No device {spec}: {count} devices of the emulator are visible, npu-emulated:0 to "
            f"npu-emulated:{count - 1}."
        )
    return spec


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


def open_device(spec: DeviceSpec) -> Device:
    """Open a device in this process; at most one kind of accelerator a process.

    Raises UsageProblem, with the remedy, when the device is not there.
    """
    if spec.kind == "cpu":
        from harness.devices.cpu import CpuDevice

        return CpuDevice()
    if spec.kind == "cuda":
        from harness.devices.cuda import CudaDevice

        return CudaDevice(spec)
    from harness.devices.npu import NpuDevice

    return NpuDevice(spec)
