"""Python environments for releases of torch_npu: one venv a torch, wheels of torch_npu beside it.

A torch is gigabytes, a torch_npu 25 to 45 MB: the wheel is unpacked into a folder that is put on
PYTHONPATH, before whatever torch_npu the environment has.  Where a torch of the release's series is
installed in this environment, this environment serves, and no venv is made.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from filelock import FileLock
from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from harness.system import environment, releases
from harness.system.files import ROOT
from harness.system.status import UsageProblem

INSTALL_SECONDS = 3600
# What a torch with its CUDA packages and an unpacked wheel take, generously, in bytes.
_VENV_BYTES, _WHEEL_BYTES = 8 << 30, 1 << 29
_PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")

Say = Callable[[str], None]


class Unavailable(Exception):
    """A release cannot be had here; the message is one sentence with the remedy."""


@dataclasses.dataclass(frozen=True)
class Stack:
    """Where a release runs: a Python, and what goes on its PYTHONPATH before the harness."""

    python: Path
    folder: Path | None = None
    note: str = ""

    @property
    def env(self) -> dict[str, str]:
        """The environment of its processes."""
        paths = [str(path) for path in (self.folder, ROOT) if path is not None]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def version(text: str) -> Version:
    """A version from outside, safe in paths and arguments.  Raises UsageProblem if it is none."""
    try:
        return Version(text)
    except InvalidVersion:
        raise UsageProblem(
            f"{text!r} is no version of torch_npu: give one as PyPI lists it, such as 2.8.0.post4 "
            "(PEP 440)."
        ) from None


def stack(release: Version, packages: Sequence[str], work: Path, say: Say) -> Stack:
    """A Python that has `release` and a torch of its series, made below `work` where needed.

    Args:
        release: Of torch_npu.
        packages: Requirements that a new venv gets beside torch and torchvision.
        work: Where wheels and venvs are kept for the next time.
        say: Is told what takes long.

    Raises:
        Unavailable: It cannot be had here.
    """
    folder = wheel(release, work, say)
    needed = needed_torch(folder)
    installed = environment.version("torch")
    if needed is None or series(installed) == series(needed):
        return Stack(Path(sys.executable), folder, f"this environment's torch {installed}")
    python = venv(needed, packages, work, say, f"torch_npu {release}")
    return Stack(python, folder, f"a venv with torch {needed}")


def wheel(release: Version, work: Path, say: Say) -> Path:
    """Folder with the unpacked wheel of a release, kept below `work`.  Raises Unavailable."""
    folder = work / f"torch_npu-{release}-{_tag()}"
    work.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if folder.is_dir():
            return folder
        _need_space(work, _WHEEL_BYTES)
        say(f"{release}: fetching the wheel of torch_npu")
        part = work / f"{folder.name}.part"
        shutil.rmtree(part, ignore_errors=True)
        try:
            done = _pip("download", "--no-deps", "--only-binary=:all:", "--dest", str(part),
                        f"torch_npu=={release}")  # fmt: skip
            if done.returncode:
                raise Unavailable(_no_wheel(release, done, work))
            (file,) = part.glob("*.whl")
            with zipfile.ZipFile(file) as archive:
                archive.extractall(part)
            file.unlink()
            part.rename(folder)
        except OSError as error:
            raise Unavailable(f"its wheel cannot be unpacked below {work} ({error}): free space "
                              "there or choose another folder with --work.") from error  # fmt: skip
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder


def needed_torch(folder: Path) -> str | None:
    """The torch that an unpacked torch_npu asks for ("2.8.0", without "+cpu"); None: any."""
    for metadata in folder.glob("*.dist-info/METADATA"):
        for line in metadata.read_text(encoding="utf-8").splitlines():
            if line.startswith("Requires-Dist:"):
                wanted = Requirement(line.partition(":")[2].strip())
                if wanted.name == "torch" and (wanted.marker is None or wanted.marker.evaluate()):
                    pins = [s.version for s in wanted.specifier if s.operator == "=="]
                    return pins[0].split("+")[0].removesuffix(".*") if pins else None
    return None


def series(text: str) -> tuple[int, ...]:
    """Major, minor and micro of a version: torch and torch_npu of one series belong together."""
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part or 0) for part in match.groups()) if match else ()


def venv(torch: str, packages: Sequence[str], work: Path, say: Say, who: str) -> Path:
    """The Python of a venv with this torch, kept below `work`.  Raises Unavailable."""
    directory = work / f"torch-{Version(torch)}-{_tag()}"
    python, done = directory / "bin" / "python", directory / ".installed"
    work.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{directory}.lock"):
        if done.exists():
            return python
        _need_space(work, _VENV_BYTES)
        shutil.rmtree(directory, ignore_errors=True)
        say(f"making a venv with torch {torch}, for {who}")
        made = run([sys.executable, "-m", "venv", str(directory)], INSTALL_SECONDS)
        if made.returncode:
            raise Unavailable(
                f"no venv could be made ({last_error(made)}): install Python's venv module."
            )
        wanted = [f"torch=={torch}", "torchvision", *packages, *releases.UNDECLARED]
        got = _pip("install", "--no-cache-dir", *wanted, python=python)
        if got.returncode:
            shutil.rmtree(directory, ignore_errors=True)
            raise Unavailable(
                _trouble(got, work)
                or f"{who} needs torch {torch}, and pip finds no set with it for Python "
                f"{_dotted()} ({last_error(got)}): run precheck with another Python."
            )
        done.touch()
    return python


def published(say: Say) -> list[Version]:
    """All releases of torch_npu that pip finds for this Python, oldest first.

    Raises Unavailable where pip gets no answer.
    """
    say("asking pip which releases of torch_npu there are")
    done = _pip("index", "versions", "torch_npu")
    match = re.search(r"Available versions: (.+)", done.stdout)
    if done.returncode or match is None:
        raise Unavailable(
            _trouble(done, ROOT)
            or f"pip lists no torch_npu for Python {_dotted()} "
            f"({last_error(done)}): look at `pip index versions torch_npu`."
        )
    return sorted(Version(text.strip()) for text in match[1].split(","))


def _no_wheel(release: Version, done: subprocess.CompletedProcess[str], work: Path) -> str:
    if trouble := _trouble(done, work):
        return trouble
    others = [python for python in _PYTHONS if python != _dotted() and _has_wheel(release, python)]
    if others:
        return (
            f"torch_npu {release} has no wheel for Python {_dotted()} but for {', '.join(others)}: "
            "run precheck with one of these."
        )
    return (
        f"pip finds no torch_npu {release} for this machine: `pip index versions torch_npu` lists "
        "what there is."
    )


def _has_wheel(release: Version, python: str) -> bool:
    asked = _pip("install", "--dry-run", "--ignore-installed", "--no-deps", "--only-binary=:all:",
                 "--target", os.devnull, "--python-version", python,
                 f"torch_npu=={release}")  # fmt: skip
    return asked.returncode == 0


def _trouble(done: subprocess.CompletedProcess[str], work: Path) -> str:
    """What says nothing about the release: no network, a full disk.  "" for anything else."""
    if re.search(r"No space left on device|Errno 28", done.stderr):
        return f"the disk of {work} or of TMPDIR is full: free space or choose another --work."
    unreachable = "NewConnectionError|NameResolutionError|ConnectTimeout|ProxyError|Read timed out"
    if re.search(unreachable, done.stderr):
        return (
            "pip reaches no package index: check the network or set PIP_INDEX_URL, or put the "
            "wheels into a folder and name it in PIP_FIND_LINKS."
        )
    return ""


def _need_space(work: Path, wanted: int) -> None:
    free = shutil.disk_usage(work).free
    if free < wanted:
        raise Unavailable(
            f"only {free >> 20} MiB are free at {work} and up to {wanted >> 20} MiB are needed: "
            "free space or choose another folder with --work."
        )


def last_error(done: subprocess.CompletedProcess[str]) -> str:
    """The sentence of pip that says most: its first ERROR that names a requirement."""
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
    telling = [line for line in errors if "requirement" in line or "Cannot install" in line]
    text = (telling or errors or done.stderr.strip().splitlines() or ["no message"])[0]
    return text.removeprefix("ERROR:").partition(" (from versions:")[0].strip()[:300]


def _pip(*arguments: str, python: Path = Path(sys.executable)) -> subprocess.CompletedProcess[str]:
    verb, *rest = arguments
    command = [str(python), "-m", "pip", verb, "--disable-pip-version-check", *rest]
    return run(command, INSTALL_SECONDS)


def run(
    command: Sequence[str], timeout: float, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A process with its output as text; code 124 when it did not end within `timeout` seconds."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=env, cwd=ROOT, check=False
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"no end within {timeout:g} s")


def _dotted() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _tag() -> str:
    return f"py{sys.version_info.major}{sys.version_info.minor}"
