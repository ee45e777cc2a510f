"""pip, asked before it acts: what it would fetch, how large that is, and what it says if it cannot.

Only the commands `install`, `download` and `--report` of pip 22.2 and newer are used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness.system.status import UsageProblem

_GLIBC = range(17, 40)  # manylinux_2_N tags that a current host takes
LARGE = 300_000_000  # bytes from which a fetch is announced and followed
# A CUDA build of torch takes three times its wheels on disk, and the wheels beside it meanwhile.
_DISK_FACTOR = 4
# pip takes wheels of another platform, but asks markers ("platform_machine == 'x86_64'") of the
# one it runs on, so that torch for aarch64 would want the CUDA packages of x86_64.
_ELSEWHERE = """
import sys
from pip._vendor.packaging import markers
from pip._internal.cli.main import main
here = markers.default_environment
there = {"platform_machine": sys.argv[1], "python_version": sys.argv[2],
         "python_full_version": sys.argv[2] + ".0"}
markers.default_environment = lambda: {**here(), **there}
sys.exit(main(sys.argv[3:]))
"""
_CUDA = ("nvidia-", "cuda-", "triton")
_UNREACHABLE = re.compile(
    r"NewConnectionError|NameResolutionError|name resolution|Max retries|unreachable|ProxyError|"
    r"ConnectTimeout|ReadTimeout|Connection (?:refused|reset|aborted|broken)|SSLError", re.I
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Target:
    """A host to install for."""

    machine: str  # "x86_64", "aarch64"
    python: str  # "3.11"
    here: bool = True

    @classmethod
    def of(cls, machine: str = "", python: str = "") -> Target:
        """That of the arguments, by default this host.  Raises UsageProblem."""
        own_python = f"{sys.version_info.major}.{sys.version_info.minor}"
        own = cls(platform.machine(), own_python)
        found = cls(machine or own.machine, python or own.python)
        if found.machine not in ("x86_64", "aarch64"):
            raise UsageProblem(f"No torch_npu is made for {found.machine}: x86_64 or aarch64.")
        if not re.fullmatch(r"3\.1\d", found.python):
            raise UsageProblem(f"Python {found.python}: give 3.10 or newer, as in 3.11.")
        return dataclasses.replace(found, here=found == own)

    @property
    def python_text(self) -> str:
        """The interpreter, for a sentence."""
        return sys.executable if self.here else f"Python {self.python}"

    def options(self) -> list[str]:
        """What tells pip about another host; it then takes wheels alone."""
        if self.here:
            return []
        names = [f"manylinux_2_{n}" for n in reversed(_GLIBC)]
        names += ["manylinux2014", "manylinux1", "linux"]
        tags = [f"{name}_{self.machine}" for name in names]
        return [
            "--only-binary=:all:", f"--python-version={self.python}", "--implementation=cp",
            *(f"--platform={tag}" for tag in tags),
        ]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Fetch:
    """One file that pip would fetch; `size` in bytes, None where the server does not say."""

    name: str
    version: str
    url: str
    size: int | None

    @property
    def is_cuda(self) -> bool:
        """Whether only a CUDA build of torch asks for it."""
        return self.name.lower().replace("_", "-").startswith(_CUDA)


class Pip:
    """pip of one interpreter, with the options of every call."""

    def __init__(
        self, python: Path, options: Sequence[str] = (), target: Target | None = None
    ) -> None:
        """`target`: the host to fetch for, where it is another."""
        start = ["-m", "pip"]
        if target is not None and not target.here:
            start = ["-c", _ELSEWHERE, target.machine, target.python]
        self._command = [str(python), *start, "--disable-pip-version-check"]
        self._options = [*options, *(target.options() if target is not None else ())]
        self._environ: dict[str, str] | None = None  # None: that of this process

    def plan(self, requirements: Sequence[str], *more: str) -> list[Fetch]:
        """What an installation would fetch.  Raises UsageProblem when it cannot be."""
        with tempfile.TemporaryDirectory() as scratch:
            report = Path(scratch, "report.json")
            # pip wants a place for another platform's packages, also when it only asks.
            other = any("--platform" in word for word in self._options)
            aside = ["--target", scratch] if other else []
            self._run(
                ["install", "--dry-run", "--quiet", "--report", str(report), *aside, *more],
                requirements,
            )
            found = json.loads(report.read_text(encoding="utf-8"))
        items: list[Any] = found["install"]
        urls = [item["download_info"]["url"] for item in items]
        with ThreadPoolExecutor(8) as pool:
            sizes = list(pool.map(_size, urls))
        return [
            Fetch(item["metadata"]["name"], item["metadata"]["version"], url, size)
            for item, url, size in zip(items, urls, sizes, strict=True)
        ]

    def install(self, requirements: Sequence[str], *more: str) -> None:
        """Install.  Raises UsageProblem.

        Python compiles a module when it is first imported: pip would compile all of them, one
        after the other, of which most are never imported.
        """
        self._run(["install", "--quiet", "--no-compile", *more], requirements)

    def download(self, requirements: Sequence[str], folder: Path, *more: str) -> None:
        """Fetch wheels into a folder.  Raises UsageProblem."""
        self._run(["download", "--quiet", "--dest", str(folder), *more], requirements)

    @contextlib.contextmanager
    def followed(self, total: int, where: Path, seconds: float = 15.0) -> Iterator[None]:
        """Say now and then how much of a large fetch has arrived; pip's files lie in `where`."""
        if total < LARGE:
            yield
            return
        scratch = Path(tempfile.mkdtemp(prefix=".fetch-", dir=_existing(where)))
        ended = threading.Event()

        def watch() -> None:
            before, most = -1, 0
            while not ended.wait(seconds):
                before, most = most, max(most, _bytes_in(scratch))
                doing = "fetched" if most > before else "installing; fetched"
                print(f"{doing} {most / 1e9:.1f} of {total / 1e9:.1f} GB", flush=True)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        self._environ = {**os.environ, "TMPDIR": str(scratch)}
        try:
            yield
        finally:
            self._environ = None
            ended.set()
            watcher.join()
            shutil.rmtree(scratch, ignore_errors=True)

    def _run(self, command: Sequence[str], requirements: Sequence[str]) -> None:
        call = [*self._command, command[0], *self._options, *command[1:], *requirements]
        done = subprocess.run(
            call, capture_output=True, text=True, errors="replace", check=False, env=self._environ
        )
        if done.returncode:
            raise UsageProblem(explained(done.stdout + done.stderr, requirements))


def announce(fetches: Sequence[Fetch], where: Path) -> int:
    """Say what a large fetch will bring; returns its bytes as far as they are known.

    Raises UsageProblem when the disk has no room for it.
    """
    total = sum(fetch.size or 0 for fetch in fetches)
    if total < LARGE:
        return total
    unknown = sum(fetch.size is None for fetch in fetches)
    torch = next((fetch for fetch in fetches if fetch.name == "torch"), None)
    cuda = any(fetch.is_cuda for fetch in fetches)
    build = f", a {'CUDA' if cuda else 'CPU'} build" if torch is not None else ""
    print(
        f"To be fetched: {len(fetches)} packages, {total / 1e9:.1f} GB"
        + (f" and {unknown} of unknown size" if unknown else "")
        + (f"; torch {torch.version}{build}" if torch is not None else ""),
        flush=True,
    )
    free = shutil.disk_usage(_existing(where)).free
    if free < _DISK_FACTOR * total:
        raise UsageProblem(
            f"{_DISK_FACTOR * total / 1e9:.0f} GB of disk are needed in {where} for that, "
            f"{free / 1e9:.0f} GB are free: make room, or give VENV= a folder on another disk."
        )
    return total


def explained(output: str, requirements: Sequence[str]) -> str:
    """What pip's output means, in one sentence with a remedy."""
    asked = " ".join(word for word in requirements if not word.startswith("-"))
    if "No space left on device" in output or "Errno 28" in output:
        return "The disk is full: make room, or give VENV= a folder on another disk."
    missing = re.search(r"No matching distribution found for ([^\s;]+)", output)
    if _UNREACHABLE.search(output) and not (missing and "from versions: 0" in output):
        return (
            "No package index can be reached: check the network or the proxy, or make a bundle on "
            "a host that has one (make bundle) and give WHEELS=DIR here."
        )
    if missing:
        return (
            f"pip finds no {missing[1]} for this Python and machine: give another STACK or PYTHON "
            "(harness/system/releases.csv lists the releases)."
        )
    if "ResolutionImpossible" in output or "conflicting dependencies" in output:
        return f"These cannot be installed together: {asked}. Give a STACK of one release."
    errors = re.findall(r"^ERROR: (.+)$", output, re.MULTILINE)
    return f"pip failed for {asked}: {errors[-1] if errors else output.strip()[-300:]}"


def _size(url: str) -> int | None:
    parts = urllib.parse.urlsplit(url)
    try:
        if parts.scheme == "file":
            return Path(urllib.request.url2pathname(parts.path)).stat().st_size
        trusted = os.environ.get("PIP_CERT") or os.environ.get("REQUESTS_CA_BUNDLE")
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - pip's own address
        context = ssl.create_default_context(cafile=trusted)
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:  # noqa: S310
            return int(answer.headers["Content-Length"])
    except (OSError, TypeError, ValueError):
        return None


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def _existing(path: Path) -> Path:
    """The nearest folder above that is there."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())
