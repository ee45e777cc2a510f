"""Content hashes, locks and atomic writes; where this checkout and the cache lie."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.system import foreign
from harness.system.status import UsageProblem

if TYPE_CHECKING:
    import torch

# The folder that holds the package, and in a checkout cases/, reports/ and docs/ as well.
ROOT = Path(__file__).parents[2]
# The accuracy cases; the wheel has them inside the plugin's package.
INSTALLED_CASES = ROOT / "npu_accuracy" / "cases"
CASES = INSTALLED_CASES if INSTALLED_CASES.is_dir() else ROOT / "cases"

_EXCLUSIVE_SECONDS = 3600
_PROBE_BYTES = 64 << 10
HEADER_LENGTH_BYTES = 8  # a safetensors file begins with the length of its header


def default_cache_dir() -> Path:
    """Where models and inputs are kept: $HARNESS_CACHE_DIR, else npu-accuracy in the user's cache.

    The user's cache is $XDG_CACHE_HOME or ~/.cache; the XDG base directory specification has
    relative paths ignored.  Raises UsageProblem without a home.
    """
    if given := os.environ.get("HARNESS_CACHE_DIR"):
        return Path(given)
    try:
        users = Path(os.environ.get("XDG_CACHE_HOME", ""))
        return (users if users.is_absolute() else Path.home() / ".cache") / "npu-accuracy"
    except RuntimeError:
        raise UsageProblem(
            "This user has no home directory to keep models in: set HARNESS_CACHE_DIR to a folder "
            "of your own."
        ) from None


def sha256_file(path: Path) -> str:
    """Return the sha256 of a regular file's bytes as hex.  Raises OSError as `open_regular`."""
    digest = hashlib.sha256()
    with foreign.open_regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fingerprint(path: Path) -> str:
    """`sha256_file`, taken again only when a file's size, time or inode changes."""
    found = path.stat()
    signature = (found.st_size, found.st_mtime_ns, found.st_ino)
    known = _FINGERPRINTS.get(path)
    if known is None or known[0] != signature:
        known = _FINGERPRINTS[path] = (signature, sha256_file(path))
    return known[1]


_FINGERPRINTS: dict[Path, tuple[tuple[int, int, int], str]] = {}


def as_text(name: str | Path) -> str:
    """A file's name as text for records and output: bytes that are no UTF-8 as escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def sha256_json(value: object) -> str:
    """Return a sha256 of a value as JSON with sorted keys, as hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def holds(path: Path, needle: bytes) -> bool:
    """Whether a file, however large, has these bytes; False where it cannot be read or is empty."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return data.find(needle) >= 0
    except (OSError, ValueError):
        return False


def sha256_tensors(tensors: Mapping[str, torch.Tensor], extra: object = None) -> str:
    """Return a sha256 over names, dtypes, shapes and bytes of CPU tensors, sorted by name.

    `extra` is any JSON value that belongs to the identity.  The hash does not depend on the
    file format, on the order of the tensors or on their memory layout.
    """
    import torch

    digest = hashlib.sha256()
    if extra is not None:
        digest.update(json.dumps(extra, sort_keys=True).encode() + b"\n")
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        head = [name, str(tensor.dtype), list(tensor.shape)]
        digest.update(json.dumps(head).encode() + b"\n")
        # As bytes: numpy knows no bfloat16.
        flat = tensor.contiguous().reshape(-1).view(torch.uint8)
        digest.update(flat.numpy().data)
    return digest.hexdigest()


def ends_torn(path: Path) -> bool:
    """Whether the last line of a file of lines was cut off: what is appended needs a new one."""
    with path.open("rb") as stream:
        if stream.seek(0, os.SEEK_END) == 0:
            return False
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) != b"\n"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its place at the end: readers see the old one or all of it.

    Makes the directory; what fails inside leaves `path` as it was.  Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not mkstemp, whose files are private whatever the umask says.
    temporary = path.parent / f".{path.name}.{os.urandom(6).hex()}"
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def save_tensors(
    tensors: Mapping[str, torch.Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file so that readers see either nothing or all of it.

    Views of one storage (tied weights), which safetensors refuses, are cloned, and nothing else.
    """
    from safetensors.torch import save_file

    own: dict[str, torch.Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        dense = tensor.detach().contiguous()
        storage = dense.untyped_storage()
        if storage.data_ptr() in storages or storage.nbytes() != dense.nbytes:
            dense = dense.clone()
        storages.add(storage.data_ptr())
        own[name] = dense
    with replacing(path) as temporary:
        save_file(own, temporary, metadata=metadata)


def tensors_of(data: bytes) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file that was read whole.

    So it cannot be changed after it was verified, nor end the process where it is cut meanwhile, as
    a mapped file would.  Raises ValueError for what is no such file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    length = int.from_bytes(data[:HEADER_LENGTH_BYTES], "little")
    header = foreign.loads(data[HEADER_LENGTH_BYTES : HEADER_LENGTH_BYTES + length])
    try:
        return load(data), dict(header["__metadata__"])
    except (SafetensorError, TypeError, KeyError) as error:
        raise ValueError(f"no safetensors file: {error}") from error


@contextlib.contextmanager
def exclusive(cache_dir: Path, key: str) -> Iterator[None]:
    """Hold off other processes that are about to make the entry `key` (hex) of a cache.

    One lock serves several keys, so that few files are kept; do not nest them.  A disk without
    locks, or a process that holds one for an hour, costs no more than making an entry twice.
    """
    import filelock  # here: the doctor reads this module where no package is installed

    folder = cache_dir / "locks"
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError, NotImplementedError):  # Timeout is an OSError
            folder.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(folder / f"{key[:2]}.lock")
            held.enter_context(lock.acquire(timeout=_EXCLUSIVE_SECONDS))
        yield


def mark_used(path: Path) -> None:
    """Set a file's modification time to now, where that is allowed: it says when it was last used.

    The access time would not do: many file systems are mounted without it.
    """
    with contextlib.suppress(OSError):
        os.utime(path)


def check_writable(path: Path) -> None:
    """Raise OSError unless a file can be made at `path`; folders that are missing can be made."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    folder = next(part for part in path.absolute().parents if os.path.lexists(part))
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(_PROBE_BYTES))  # a full disk takes a name, but no content
        file.flush()


def write_json(value: Mapping[str, Any], path: Path) -> None:
    """Write indented JSON; meant for directories that are not published yet."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextlib.contextmanager
def publish_directory(target: Path) -> Iterator[Path]:
    """Give a temporary sibling directory that becomes `target` when the block ends well.

    An existing `target` is replaced.  When two processes publish at once the last one wins;
    each of them leaves a complete directory.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name}.{os.urandom(6).hex()}"
    temporary.mkdir()
    try:
        yield temporary
        old = temporary.with_name(temporary.name + ".old")
        for _ in range(10):
            # rename(2) does not replace a directory that is not empty: move it aside first.
            with contextlib.suppress(FileNotFoundError):
                os.replace(target, old)
            try:
                os.replace(temporary, target)
                break
            except OSError:
                shutil.rmtree(old, ignore_errors=True)
        else:
            raise OSError(f"could not publish {target}: others keep writing there")
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
