import ctypes

import pytest

from harness.devices.cpu import CpuDevice
from harness.system import process


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc")
def test_release_gives_freed_memory_back():
    held = [bytearray(b"x") * 100_000 for _ in range(3000)]
    full = process._field("VmRSS")
    pinned = held[-1]  # the end of the heap stays in use, so that glibc alone gives nothing back
    del held
    process.release()
    left = process._field("VmRSS")
    assert len(pinned) == 100_000
    assert full - left > 200_000_000


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), True),
        (RuntimeError("size mismatch"), False),
    ],
)
def test_errors_of_a_full_host(error, expected):
    assert process.exhausted(error) is expected
    assert (CpuDevice().explain(error) is not None) is expected
