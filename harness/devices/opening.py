"""Opens a device in the calling process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.devices import emulated_kernels
from harness.devices.spec import DeviceSpec

if TYPE_CHECKING:
    from harness.devices.device import Device


def open_device(spec: DeviceSpec, kernels: str = emulated_kernels.DEFAULT) -> Device:
    """Open a device in this process; at most one kind of accelerator a process.

    `kernels`: what the emulated NPU computes with (`emulated_kernels`).  Raises UsageProblem, with
    the remedy, when the device is not there.
    """
    if spec.kind == "cpu":
        from harness.devices.cpu import CpuDevice

        return CpuDevice()
    if spec.kind == "cuda":
        from harness.devices.cuda import CudaDevice

        return CudaDevice(spec)
    from harness.devices.npu import NpuDevice

    return NpuDevice(spec, kernels)
