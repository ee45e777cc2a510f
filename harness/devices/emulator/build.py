"""Builds the emulator's libraries on first use and keeps them in a cache.

The key of a build is what it depends on: the sources, torch, torch_npu, the compiler and the
machine.  A build happens in a directory of its own that is renamed when it is complete, under a
file lock, so that neither a killed process nor two at once leave a broken one.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.devices.emulator import compilation
from harness.devices.emulator.compilation import Toolchain
from harness.devices.emulator.errors import EmulatorError
from harness.system import files, foreign, private

SOURCES = Path(__file__).resolve().parent / "src"
# The releases in the table of docs/releases.md; any other one is loaded as well, and named untried.
TRIED_TORCH_NPU = (
    *("2.7.1", "2.7.1.post11", "2.8.0", "2.8.0.post2", "2.8.0.post4", "2.8.0.post5"),
    *("2.9.0", "2.9.0.post2", "2.9.0.post9", "2.9.1", "2.10.0", "2.10.0.post4", "2.10.0.post7"),
    *("2.11.0", "2.12.0", "2.13.0", "2.14.0"),
)
_OLDEST_TORCH_NPU = (2, 7, 1)

_MANIFEST = "manifest.json"  # sha256 of every library
FIRST_USE = "The emulated NPU is compiled first, once for this torch: under a minute on two cores."


def default_cache_dir() -> Path:
    """``npu-accuracy/emulator`` below $XDG_CACHE_HOME or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the specification has relative paths ignored
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "npu-accuracy" / "emulator"


def _package_dir(name: str) -> Path | None:
    """Directory of an installed package, without importing it."""
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # a module in sys.modules without a spec
        return None
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent


def find_torch_npu() -> tuple[Path, str]:
    """Directory and version of torch_npu, found without importing it.

    Raises:
        EmulatorError: torch_npu is missing, or older than the emulator can carry.
    """
    directory = _package_dir("torch_npu")
    if directory is None:
        raise EmulatorError(
            "torch_npu is not installed in this Python environment, and the emulator runs the "
            "real one: install torch_npu (docs/releases.md lists them)."
        )
    try:
        version = importlib.metadata.version("torch_npu")
    except importlib.metadata.PackageNotFoundError:
        return directory, "unknown"
    numbers = tuple(map(int, re.findall(r"\d+", version)[:3]))
    if not numbers:
        return directory, "unknown"
    if numbers < _OLDEST_TORCH_NPU:
        raise EmulatorError(
            f"torch_npu {version} is older than the emulator can carry: install "
            f"{'.'.join(map(str, _OLDEST_TORCH_NPU))} or newer."
        )
    return directory, version


def is_untried(version: str) -> bool:
    """Whether the emulator was never tried with this torch_npu; local parts do not count."""
    return version.split("+")[0] not in TRIED_TORCH_NPU


def clashes_with_cuda(torch_npu_dir: Path) -> bool:
    """Whether this torch_npu aborts beside a CUDA build of torch (allocator_keys.cpp says why).

    Asked of the library: no version number tells.
    """
    library = torch_npu_dir / "lib" / "libtorch_npu.so"
    return files.holds(library, b"registerDeviceConfigParserHook")


def find_compiler() -> tuple[tuple[str, ...], str]:
    """Command and version line of the C++ compiler: $CXX, else c++, g++, clang++.

    Raises:
        EmulatorError: there is none, or $CXX does not run.
    """
    chosen = os.environ.get("CXX")
    if chosen:
        command = tuple(shlex.split(chosen))
    else:
        found = next(
            (path for name in ("c++", "g++", "clang++") if (path := shutil.which(name))), ""
        )
        if not found:
            raise EmulatorError(
                "no C++ compiler was found (tried c++, g++, clang++ on PATH), and the emulator is "
                "built on first use: install one (Debian: g++) or name it in CXX."
            )
        command = (found,)
    try:
        answer = subprocess.run(
            [*command, "--version"], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EmulatorError(
            f"the C++ compiler {' '.join(command)!r} does not run ({error}): set CXX to one that "
            "does, or unset it."
        ) from error
    return command, (answer.stdout.splitlines() or ["unknown"])[0]


def find_toolchain() -> Toolchain:
    """Everything a build needs.

    Raises:
        EmulatorError: something is missing.
    """
    torch_npu_dir, torch_npu_version = find_torch_npu()
    torch_dir = _package_dir("torch")
    if torch_dir is None:
        raise EmulatorError("torch is not installed in this Python environment: install it.")
    compiler, compiler_version = find_compiler()
    toolchain = Toolchain(
        compiler=compiler,
        compiler_version=compiler_version,
        torch_dir=torch_dir,
        torch_version=importlib.metadata.version("torch"),
        torch_npu_dir=torch_npu_dir,
        torch_npu_version=torch_npu_version,
    )
    for header in (toolchain.acl_include / "acl" / "acl.h", torch_dir / "include" / "ATen"):
        if not header.exists():
            raise EmulatorError(
                f"{header} is missing: this installation of torch or torch_npu has no headers; "
                "reinstall it from its wheel."
            )
    return toolchain


def build_key(toolchain: Toolchain) -> str:
    """Name of the build: 20 hexadecimal digits."""
    digest = hashlib.sha256()
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    for part in (
        toolchain.torch_version,
        toolchain.torch_npu_version,
        toolchain.compiler_version,
        " ".join(toolchain.compiler),
        toolchain.flags,
        platform.machine(),
        _MANIFEST,
    ):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:20]


def ensure_built(cache_dir: Path | None = None) -> Path:
    """Directory with the libraries; builds them when the cache has none that fit.

    Args:
        cache_dir: Where builds are kept; `default_cache_dir` when not given.

    Raises:
        EmulatorError: The build is not possible; the message says why and what to do.
    """
    toolchain = find_toolchain()
    cache = cache_dir or default_cache_dir()
    target = cache / build_key(toolchain)
    try:
        private.make(cache)
        if target.is_dir():
            return _checked(target)
        with _lock(cache / f"{target.name}.lock"):
            if not target.is_dir():  # else another process built it while this one waited
                _build_into(target, toolchain)
        return _checked(target)
    except private.NotOurs as error:
        raise EmulatorError(
            f"the emulator's cache {cache} holds libraries that this process would run, and "
            f"{error.strerror}: take that right away, or choose another directory with "
            "XDG_CACHE_HOME."
        ) from error
    except OSError as error:
        raise EmulatorError(
            f"the emulator's cache {cache} cannot be written ({error}): free space there or choose "
            "another directory with XDG_CACHE_HOME."
        ) from error


def is_built(cache_dir: Path | None = None) -> bool:
    """Whether nothing is left to compile; also where that is not possible: loading says why."""
    try:
        return ((cache_dir or default_cache_dir()) / build_key(find_toolchain())).is_dir()
    except EmulatorError:
        return True


def _checked(target: Path) -> Path:
    """A build that is this user's own, with the files that were built and no other."""
    if found := private.problem(target):
        raise private.NotOurs(errno.EPERM, found, str(target))
    present = {path.name: path for path in target.iterdir() if path.name != _MANIFEST}
    manifest = target / _MANIFEST
    built = foreign.loads(foreign.read_bytes(manifest)) if manifest.exists() else {}
    for name, path in present.items():
        if found := private.problem(path):
            raise private.NotOurs(errno.EPERM, found, str(path))
        if path.is_symlink() or built.get(name) != files.sha256_file(path):
            built = {}
            break
    if present.keys() != built.keys():
        raise EmulatorError(
            f"the emulator's libraries in {target} are not those that were built there: delete "
            "that folder, and see who changed it."
        )
    return target


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with open(path, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield  # closing the file releases the lock


def _build_into(target: Path, toolchain: Toolchain) -> None:
    workspace = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    started = time.monotonic()
    print(FIRST_USE, file=sys.stderr, flush=True)
    try:
        compilation.compile_all(SOURCES, workspace, toolchain)
        for leftover in (*workspace.glob("*.o"), *workspace.glob("*.h")):
            leftover.unlink()
        built = {path.name: files.sha256_file(path) for path in sorted(workspace.iterdir())}
        files.write_json(built, workspace / _MANIFEST)
        os.rename(workspace, target)
        print(f"Compiled in {time.monotonic() - started:.0f} s.", file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
