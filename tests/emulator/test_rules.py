"""Memory and stream rules, through CANN's C functions: an error code and a text, never a crash."""

from __future__ import annotations

import ctypes
from ctypes import (
    POINTER,
    byref,
    c_char_p,
    c_float,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint64,
    c_void_p,
)

import pytest

from harness.devices.emulator import Emulator

INVALID = 107000  # ACL_ERROR_RT_PARAM_INVALID
NO_CONTEXT = 107002
NO_MEMORY = 207001
H2D, D2H, D2D = 1, 2, 3


class Acl:
    """The C functions with their argument types, on device 0 of the calling thread."""

    def __init__(self, npu: Emulator) -> None:
        self.lib = npu.library
        self.lib.aclGetRecentErrMsg.restype = c_char_p
        for name, types in {
            "aclrtMalloc": [POINTER(c_void_p), c_size_t, c_int],
            "aclrtFree": [c_void_p],
            "aclrtFreeHost": [c_void_p],
            "aclrtMemcpy": [c_void_p, c_size_t, c_void_p, c_size_t, c_int],
            "aclrtMemcpyAsync": [c_void_p, c_size_t, c_void_p, c_size_t, c_int, c_void_p],
            "aclrtMemset": [c_void_p, c_size_t, c_int32, c_size_t],
            "aclrtCreateStream": [POINTER(c_void_p)],
            "aclrtDestroyStream": [c_void_p],
            "aclrtSynchronizeStream": [c_void_p],
            "aclrtCreateEvent": [POINTER(c_void_p)],
            "aclrtDestroyEvent": [c_void_p],
            "aclrtRecordEvent": [c_void_p, c_void_p],
            "aclrtSynchronizeEvent": [c_void_p],
            "aclrtStreamWaitEvent": [c_void_p, c_void_p],
            "aclrtEventElapsedTime": [POINTER(c_float), c_void_p, c_void_p],
        }.items():
            getattr(self.lib, name).argtypes = types
        assert self.lib.aclrtSetDevice(0) == 0

    def malloc(self, size: int) -> int:
        pointer = c_void_p()
        assert self.lib.aclrtMalloc(byref(pointer), size, 0) == 0
        assert pointer.value is not None
        return pointer.value

    def handle(self, function: str) -> c_void_p:
        handle = c_void_p()
        assert getattr(self.lib, function)(byref(handle)) == 0
        return handle

    def text(self) -> str:
        return (self.lib.aclGetRecentErrMsg() or b"").decode()


@pytest.fixture
def acl(npu: Emulator) -> Acl:
    return Acl(npu)


def test_copies_within_a_buffer_work(acl: Acl) -> None:
    block = acl.malloc(100)
    source, target = ctypes.create_string_buffer(b"x" * 60, 60), ctypes.create_string_buffer(60)
    assert acl.lib.aclrtMemcpy(block + 40, 60, source, 60, H2D) == 0
    assert acl.lib.aclrtMemcpy(target, 60, block + 40, 60, D2H) == 0
    assert target.raw == source.raw
    assert acl.lib.aclrtFree(block) == 0


def test_double_free(acl: Acl) -> None:
    block = acl.malloc(100)
    assert acl.lib.aclrtFree(block) == 0
    assert acl.lib.aclrtFree(block) == INVALID
    assert "double free" in acl.text()


def test_free_of_a_stranger(acl: Acl) -> None:
    block = acl.malloc(100)
    assert acl.lib.aclrtFree(block + 8) == INVALID
    assert "not allocated" in acl.text()
    assert acl.lib.aclrtFreeHost(block) == INVALID
    assert acl.lib.aclrtFree(block) == 0


@pytest.mark.parametrize(("offset", "size"), [(0, 101), (99, 2), (100, 1)])
@pytest.mark.parametrize("kind", [H2D, D2H, D2D])
def test_copy_beyond_the_buffer(acl: Acl, kind: int, offset: int, size: int) -> None:
    block, other = acl.malloc(100), acl.malloc(200)
    host = ctypes.create_string_buffer(200)
    target = host if kind == D2H else block + offset
    source = host if kind == H2D else (block + offset if kind == D2H else other)
    assert acl.lib.aclrtMemcpy(target, 200, source, size, kind) == INVALID
    assert "beyond the buffer" in acl.text()
    assert acl.lib.aclrtFree(block) == acl.lib.aclrtFree(other) == 0


def test_copy_beyond_the_declared_capacity(acl: Acl) -> None:
    block = acl.malloc(100)
    host = ctypes.create_string_buffer(100)
    assert acl.lib.aclrtMemcpy(block, 10, host, 11, H2D) == INVALID
    assert acl.lib.aclrtMemset(block, 10, 0, 11) == INVALID
    assert acl.lib.aclrtMemset(block, 200, 0, 101) == INVALID
    assert acl.lib.aclrtFree(block) == 0


@pytest.mark.parametrize("kind", [H2D, D2H])
def test_use_after_free(acl: Acl, kind: int) -> None:
    block = acl.malloc(100)
    assert acl.lib.aclrtFree(block) == 0
    host = ctypes.create_string_buffer(100)
    target, source = (block + 4, host) if kind == H2D else (host, block + 4)
    assert acl.lib.aclrtMemcpy(target, 50, source, 50, kind) == INVALID
    assert "use after free" in acl.text()


def test_host_address_as_device_address(acl: Acl) -> None:
    host, other = ctypes.create_string_buffer(100), ctypes.create_string_buffer(100)
    assert acl.lib.aclrtMemcpy(host, 100, other, 100, H2D) == INVALID
    assert "not device memory" in acl.text()


def test_memory_used_again_is_valid_again(acl: Acl) -> None:
    host = ctypes.create_string_buffer(100)
    seen = set()
    for _ in range(50):
        block = acl.malloc(100)
        assert acl.lib.aclrtMemcpy(block, 100, host, 100, H2D) == 0
        seen.add(block)
        assert acl.lib.aclrtFree(block) == 0
    assert len(seen) < 50, "no address came back: the test did not see a reuse"


def test_allocation_beyond_the_device(acl: Acl, npu: Emulator) -> None:
    pointer = c_void_p()
    assert acl.lib.aclrtMalloc(byref(pointer), npu.memory(0).limit, 0) == NO_MEMORY
    assert "out of memory" in acl.text() and pointer.value is None


def operator_on(npu: Emulator, address: int, count: int, stream: c_void_p | None = None) -> int:
    """Runs aclnnInplaceZero on `count` fp32 values at an address."""
    ops = ctypes.CDLL(str(npu.directory / "libopapi.so"))
    ops.aclCreateTensor.restype = c_void_p
    ops.aclCreateTensor.argtypes = [
        POINTER(c_int64), c_uint64, c_int, POINTER(c_int64), c_int64, c_int, POINTER(c_int64),
        c_uint64, c_void_p,
    ]  # fmt: skip
    ops.aclnnInplaceZeroGetWorkspaceSize.argtypes = [c_void_p, POINTER(c_uint64), POINTER(c_void_p)]
    ops.aclnnInplaceZero.argtypes = [c_void_p, c_uint64, c_void_p, c_void_p]
    ops.aclDestroyTensor.argtypes = [c_void_p]
    shape, strides = (c_int64 * 1)(count), (c_int64 * 1)(1)
    tensor = ops.aclCreateTensor(shape, 1, 0, strides, 0, 2, shape, 1, address)
    workspace, executor = c_uint64(), c_void_p()
    assert ops.aclnnInplaceZeroGetWorkspaceSize(tensor, byref(workspace), byref(executor)) == 0
    code: int = ops.aclnnInplaceZero(None, 0, executor, stream)
    ops.aclDestroyTensor(tensor)
    return code


def test_operator_on_good_memory(acl: Acl, npu: Emulator) -> None:
    block = acl.malloc(100)
    assert operator_on(npu, block, 25) == 0
    assert acl.lib.aclrtFree(block) == 0


def test_operator_beyond_the_buffer(acl: Acl, npu: Emulator) -> None:
    block = acl.malloc(100)
    assert operator_on(npu, block, 26) != 0
    assert "InplaceZero" in acl.text() and "beyond the buffer" in acl.text()
    assert acl.lib.aclrtFree(block) == 0


def test_operator_on_freed_memory(acl: Acl, npu: Emulator) -> None:
    block = acl.malloc(100)
    assert acl.lib.aclrtFree(block) == 0
    assert operator_on(npu, block, 25) != 0
    assert "use after free" in acl.text()


def test_operator_on_a_destroyed_stream(acl: Acl, npu: Emulator) -> None:
    block, stream = acl.malloc(100), acl.handle("aclrtCreateStream")
    assert operator_on(npu, block, 25, stream) == 0
    assert acl.lib.aclrtDestroyStream(stream) == 0
    assert operator_on(npu, block, 25, stream) == INVALID
    assert "stream" in acl.text()
    assert acl.lib.aclrtFree(block) == 0


def test_destroyed_stream(acl: Acl) -> None:
    stream = acl.handle("aclrtCreateStream")
    assert acl.lib.aclrtSynchronizeStream(stream) == 0
    assert acl.lib.aclrtDestroyStream(stream) == 0
    host, block = ctypes.create_string_buffer(4), acl.malloc(4)
    assert acl.lib.aclrtMemcpyAsync(block, 4, host, 4, H2D, stream) == INVALID
    assert acl.lib.aclrtSynchronizeStream(stream) == INVALID
    assert acl.lib.aclrtDestroyStream(stream) == INVALID
    assert "unknown or destroyed stream" in acl.text()
    assert acl.lib.aclrtFree(block) == 0


def test_destroyed_event(acl: Acl) -> None:
    event, other = acl.handle("aclrtCreateEvent"), acl.handle("aclrtCreateEvent")
    assert acl.lib.aclrtRecordEvent(event, None) == 0
    assert acl.lib.aclrtDestroyEvent(event) == 0
    elapsed = c_float()
    assert acl.lib.aclrtRecordEvent(event, None) == INVALID
    assert acl.lib.aclrtSynchronizeEvent(event) == INVALID
    assert acl.lib.aclrtStreamWaitEvent(None, event) == INVALID
    assert acl.lib.aclrtEventElapsedTime(byref(elapsed), event, other) == INVALID
    assert "unknown or destroyed event" in acl.text()
    assert acl.lib.aclrtEventElapsedTime(byref(elapsed), other, other) == INVALID
    assert "not recorded" in acl.text()
    assert acl.lib.aclrtDestroyEvent(other) == 0


def test_no_such_device(acl: Acl) -> None:
    assert acl.lib.aclrtSetDevice(2) == INVALID
    assert "no such device" in acl.text()
