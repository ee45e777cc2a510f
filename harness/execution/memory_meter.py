"""Peak memory of a piece of work, of the host and of the device.

The host's is that of the whole process (`system/process.py`), so what was resident before stands
beside it; the device's is what PyTorch's allocator counted: tensors, not the workspaces of its
kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.records.leg import MemoryUse
from harness.system.process import _field, host_peak, reset_peak

if TYPE_CHECKING:
    from harness.devices.device import Device


class MemoryMeter:
    """Measures from when it is made."""

    def __init__(self, device: Device) -> None:
        self._device = device
        device.reset_peak_memory()
        self._since_start = not reset_peak()
        self._before = _field("VmRSS")

    def read(self) -> MemoryUse:
        """The peaks since then."""
        peak, reserved = self._device.peak_memory() or (None, None)
        return MemoryUse(
            host_peak=host_peak(),
            host_before=self._before,
            host_since_start=self._since_start,
            device_peak=peak,
            device_reserved=reserved,
        )
