"""What the control groups of Linux leave this process of memory: a container is limited by one.

Both versions of the interface: kernel documentation, admin-guide/cgroup-v2.rst (memory.max,
memory.current, memory.stat, memory.events) and admin-guide/cgroup-v1/memory.rst.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_OWN, _MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
_NO_LIMIT = 1 << 60  # version 1 has a number near 2^63 for none


def available() -> int | None:
    """Bytes that may still be used within every limit; None where there is none.

    Pages of files are given up before a limit counts.
    """
    found = []
    for group in _groups():
        limit = _limit(group)
        used = _number(group / "memory.current", group / "memory.usage_in_bytes")
        if limit is not None and used is not None:
            found.append(max(0, limit - used + _files(group)))
    return min(found, default=None)


def limit() -> int | None:
    """The least limit, in bytes."""
    return min((one for one in map(_limit, _groups()) if one is not None), default=None)


def killed() -> int | None:
    """How many processes of this group Linux has ended for want of memory; None: it keeps no count.

    Whatever was short: this group, one above it, or the host.
    """
    for group in _groups():
        for name in ("memory.events", "memory.oom_control"):
            count = _field(group / name, "oom_kill")
            if count is not None:
                return count
    return None


def _groups() -> Iterator[Path]:
    """This process' group and those above it, as far as they can be seen from here."""
    try:
        lines = _OWN.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        mount = _MOUNT / "memory" if controllers else _MOUNT
        own = mount / path.lstrip("/")
        for group in (own, *own.parents):
            if group.is_dir():
                yield group
            if group == mount:
                break


def _limit(group: Path) -> int | None:
    found = _number(group / "memory.max", group / "memory.limit_in_bytes")
    return found if found is not None and found < _NO_LIMIT else None


def _files(group: Path) -> int:
    """Bytes of the group's pages of files; version 1 counts its children under other names."""
    stat = group / "memory.stat"
    return sum(
        _field(stat, f"total_{name}") or _field(stat, name) or 0
        for name in ("active_file", "inactive_file")
    )


def _number(*paths: Path) -> int | None:
    for path in paths:
        try:
            return int(path.read_text())
        except (OSError, ValueError):  # "max"
            continue
    return None


def _field(path: Path, name: str) -> int | None:
    try:
        match = re.search(rf"^{name} (\d+)$", path.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(match[1]) if match else None
