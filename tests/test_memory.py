import ctypes

import pytest

from harness import memory


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc")
def test_release_gives_freed_memory_back():
    held = [bytearray(b"x") * 100_000 for _ in range(3000)]
    full = memory._field("VmRSS")
    pinned = held[-1]  # the end of the heap stays in use, so that glibc alone gives nothing back
    del held
    memory.release()
    left = memory._field("VmRSS")
    assert len(pinned) == 100_000
    assert full - left > 200_000_000
