import numpy as np
import pytest

from harness.devices.cpu import CpuDevice
from harness.execution import memory_meter
from harness.system import process


def test_peak_memory_is_that_of_the_work():
    size = 64 << 20
    first = memory_meter.MemoryMeter(CpuDevice())
    block = np.ones(size, np.uint8)
    del block
    used = first.read()
    if used.host_since_start:
        pytest.skip("this kernel does not reset the peak")
    assert used.host_peak >= used.host_before + 0.9 * size
    assert (used.device_peak, used.device_reserved) == (None, None)
    later = memory_meter.MemoryMeter(CpuDevice()).read()
    assert later.host_peak <= used.host_peak - 0.5 * size


def test_a_peak_that_cannot_be_reset_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(process, "_RESET", tmp_path / "missing" / "clear_refs")
    used = memory_meter.MemoryMeter(CpuDevice()).read()
    assert used.host_since_start and used.host_peak >= used.host_before
