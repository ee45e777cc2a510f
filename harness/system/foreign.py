"""What others wrote: names that become paths, files that are read, JSON that is parsed.

A name from a file is data.  It becomes a path only below a root, through directories that are
opened one by one without following a link, so that nothing can be put in the way meanwhile; the
same holds for reading and for writing.  A file is looked at on the open descriptor, and read only
when it is a regular one of a bounded size.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

_LONGEST_NAME = 1024
_LONGEST_PART = 255  # of Linux's file systems
# Records, case files, configurations: far above anything that the harness writes.
DOCUMENT_BYTES = 64 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a link",
}


class TooDeep(ValueError):
    """A document is nested deeper, or is larger, than a reader can take."""


def parts(name: str) -> tuple[str, ...]:
    """The parts of a foreign relative name, "a/b.txt".

    Raises ValueError, with a phrase, for a name that is empty, absolute, too long, or holds `.`,
    `..`, an empty part, a backslash, or a character that is not shown.
    """
    found = tuple(name.split("/"))
    if not name or name.startswith("/"):
        raise ValueError("a relative name was expected")
    if any(part in ("", ".", "..") for part in found) or "\\" in name:
        raise ValueError("it has an empty part, `.`, `..` or a backslash")
    if len(name) > _LONGEST_NAME or any(len(os.fsencode(part)) > _LONGEST_PART for part in found):
        raise ValueError("it is too long")
    if any(unicodedata.category(character) in ("Cc", "Cf", "Cs") for character in name):
        raise ValueError("it holds a control character")
    return found


def read_below(root: Path, name: str, limit: int) -> bytes | None:
    """The content of root/name; None when it is not there.

    Raises ValueError as `parts` does, and OSError for a link at any part below the root, for what
    is no regular file, and for one of more than `limit` bytes.
    """
    *folders, last = parts(name)
    try:
        with _named(root, name), _folder(root, folders, make=False) as where:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            return _whole(os.open(last, flags, dir_fd=where), Path(root, name), limit)
    except FileNotFoundError:
        return None


def write_below(root: Path, name: str, content: bytes) -> None:
    """Write root/name in one step, making its folders; what stands there is replaced.

    Raises ValueError as `parts` does, and OSError for a link or a file at a folder's place.
    """
    *folders, last = parts(name)
    with _named(root, name), _folder(root, folders, make=True) as where:
        temporary = f".{os.getpid()}-{os.urandom(6).hex()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(temporary, flags, 0o666, dir_fd=where), "wb") as file:
                file.write(content)
            os.replace(temporary, last, src_dir_fd=where, dst_dir_fd=where)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=where)
            raise


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading.  Raises OSError, its strerror a phrase, unless it is a regular one.

    A link may lead to it, as model hubs' caches have them; a FIFO or a device is not opened.
    """
    _check_regular(os.stat(path), path)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        # Again: what the name stands for may have changed.
        _check_regular(os.fstat(descriptor), path)
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, limit: int = DOCUMENT_BYTES) -> bytes:
    """A regular file's content.  Raises OSError as `open_regular`, and for more than `limit`."""
    with open_regular(path) as file:
        return _bounded(file, path, limit)


def read_text(path: Path, limit: int = DOCUMENT_BYTES) -> str:
    """The same as UTF-8.  Raises UnicodeDecodeError as well."""
    return read_bytes(path, limit).decode("utf-8")


def loads(text: str | bytes) -> Any:
    """Parse JSON.  Raises ValueError; TooDeep, one of them, for what no reader can take."""
    try:
        return json.loads(text)
    except (RecursionError, MemoryError):
        raise TooDeep("it is nested too deep or too large") from None


def _whole(descriptor: int, path: Path, limit: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        _check_regular(os.fstat(descriptor), path)
        return _bounded(file, path, limit)


def _bounded(file: BinaryIO, path: Path, limit: int) -> bytes:
    content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"it has more than the {limit} bytes that are read", str(path))
    return content


def _check_regular(status: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no file")
        raise OSError(errno.EINVAL, f"it is {kind}, not a regular file", str(path))


@contextlib.contextmanager
def _named(root: Path, name: str) -> Iterator[None]:
    """Let errors name the whole path, and say that a link is in the way where one is."""
    try:
        yield
    except OSError as error:
        # A linked folder is "no directory" to O_NOFOLLOW.
        link = error.errno in (errno.ELOOP, errno.ENOTDIR)
        reason = "a link, or a file, is in the way" if link else error.strerror
        raise OSError(error.errno, reason, str(root / name)) from error


@contextlib.contextmanager
def _folder(root: Path, folders: list[str], *, make: bool) -> Iterator[int]:
    """A descriptor of a folder below `root`, reached without following a link."""
    if make:
        root.mkdir(parents=True, exist_ok=True)
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in folders:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=here)
            deeper = os.open(part, _FOLDER, dir_fd=here)
            os.close(here)
            here = deeper
        yield here
    finally:
        os.close(here)
