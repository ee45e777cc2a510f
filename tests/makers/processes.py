"""What Linux knows of a process and of its children."""

import subprocess
import time
from pathlib import Path


def children(process: subprocess.Popen) -> list[int]:
    """Of all its threads: the kernel lists them by the thread that started them."""
    lists = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(pid) for path in lists for pid in path.read_text().split()]


def state(pid: int) -> str:
    """As in proc(5): "T" is stopped, "Z" ended and not waited for; "" for none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def alive(pid: int) -> bool:
    return state(pid) not in ("", "Z")


def wait_for(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)
    return found
