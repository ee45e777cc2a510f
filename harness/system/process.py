"""This process' memory: its peak, what is left of the host's, and giving back what was freed.

The peak is the process' greatest resident set (VmHWM) since it was reset; it holds everything in
the process, libraries too.  `execution/memory_meter.py` measures a piece of work with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import re
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.system import control_group

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5): resets the peak resident set size
_VMSTAT = Path("/proc/vmstat")
_OOM_SCORE = Path("/proc/self/oom_score_adj")


def host_peak(process: int | str = "self") -> int | None:
    """The greatest resident set of a process, in bytes, since it began or was reset.

    `process`: its number; None for another one that is gone or hidden.
    """
    found = _field("VmHWM", Path("/proc", str(process), "status"))
    if found is not None:
        return found
    if process != "self":
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kB, but bytes on macOS
    return peak * (1 if sys.platform == "darwin" else 1024) or None


def resident(process: int) -> int | None:
    """Bytes of memory that a process holds now."""
    return _field("VmRSS", Path("/proc", str(process), "status"))


def available() -> int | None:
    """Bytes of memory that can still be used, of the host's and within this process' limits."""
    found = (_field("MemAvailable", Path("/proc/meminfo")), control_group.available())
    return min((one for one in found if one is not None), default=None)


def killed_for_memory() -> int:
    """How many processes Linux has ended for want of memory, in this group or on this host."""
    ours = control_group.killed()
    if ours is not None:
        return ours
    try:
        match = re.search(r"^oom_kill (\d+)$", _VMSTAT.read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(match[1]) if match else 0


def exhausted(error: BaseException) -> bool:
    """Whether an error says that the host has no memory left."""
    text = str(error)
    return isinstance(error, MemoryError) or any(
        part in text for part in ("not enough memory", "can't allocate memory")
    )


@contextlib.contextmanager
def first_to_go() -> Iterator[None]:
    """Have Linux end this process, and not the run, when the host runs out of memory inside."""
    before = ""
    with contextlib.suppress(OSError):
        before = _OOM_SCORE.read_text()
        _OOM_SCORE.write_text("1000")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            _OOM_SCORE.write_text(before)


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Import large packages inside: what they bring stays, and is not searched for garbage.

    torch and timm bring 350,000 objects.  Python would look through them again and again while it
    loads them (0.5 s), in every later collection (0.2 s a case) and when the process ends (0.7 s).
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def release(also: Callable[[], None] = lambda: None) -> None:
    """Give back what was freed: glibc keeps it in its arenas, more of it with every other model.

    `also`: what else keeps memory.  A process that has run twenty models holds half as much.
    """
    gc.collect()  # models hold themselves in cycles
    also()
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def reset_peak() -> bool:
    """Start this process' peak anew; False where the system does not allow it."""
    try:
        _RESET.write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def _field(key: str, path: Path = _STATUS) -> int | None:
    """A field that the kernel gives in kB, in bytes."""
    try:
        match = re.search(rf"^{key}:\s+(\d+) kB", path.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(match[1]) * 1024 if match else None
