"""Whose folder it is: caches, locks and builds are kept where nobody else can write.

Whoever can write to a folder, or to one above it, decides what lies in it.  A folder is this
user's own when it, and every part of its path, belongs to this user or to root and others cannot
write to it; above it, a sticky folder such as /tmp will do.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from harness.system.status import UsageProblem

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class NotOurs(OSError):
    """Others decide what lies in a folder; `strerror` is a phrase that says how."""


def problem(path: Path) -> str:
    """Why a file or folder is not this user's own, a phrase; "" where it is, or is not there.

    Looks at every part of the path as it is written and, where one is a link, as it resolves.
    Raises OSError when a part cannot be looked at.
    """
    given = Path(os.path.abspath(path))
    real = Path(os.path.realpath(path))
    chains = [given] if given == real else [given, real]
    for chain in chains:
        for part in (*reversed(chain.parents), chain):
            try:
                status = part.lstat()
            except FileNotFoundError:
                break
            if found := _problem(part, status, last=part == chain):
                return found
    return ""


def make(path: Path) -> None:
    """Make a folder, and those missing above it, for this user alone (0700), and look at it.

    Raises NotOurs, and OSError when it cannot be made.
    """
    missing = [part for part in (path, *path.parents) if not os.path.lexists(part)]
    for part in reversed(missing):
        part.mkdir(mode=0o700, exist_ok=True)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "it is no folder", str(path))
    if found := problem(path):
        raise NotOurs(errno.EPERM, found, str(path))


def require(path: Path, what: str, remedy: str) -> None:
    """`make`, with one sentence instead of an error.  Raises UsageProblem."""
    try:
        make(path)
    except OSError as error:
        raise UsageProblem(f"{what} {path} cannot be used: {error.strerror}. {remedy}") from error


def _problem(path: Path, status: os.stat_result, *, last: bool) -> str:
    if status.st_uid not in (0, os.geteuid()):
        return f"{path} belongs to another user (uid {status.st_uid})"
    if stat.S_ISLNK(status.st_mode) or not status.st_mode & _OTHERS:
        return ""
    if not last and status.st_mode & stat.S_ISVTX:
        return ""
    if not status.st_mode & stat.S_IWOTH and _alone_in(status.st_gid, status.st_uid):
        return ""
    return f"others can write to {path} (mode {stat.S_IMODE(status.st_mode):04o})"


def _alone_in(group: int, user: int) -> bool:
    """Whether a group is a user's private one, as many systems give each user."""
    import grp
    import pwd

    try:
        name, entry = pwd.getpwuid(user).pw_name, grp.getgrgid(group)
    except KeyError:
        return False
    return entry.gr_name == name and set(entry.gr_mem) <= {name}
