"""Which torch, torch_npu, torchvision and timm a run takes, and why.

On a host with an NPU the stack under test is the user's: what is installed is used as it is.  Where
nothing is, the pair follows from the CANN that is found; without CANN, for the emulated NPU, from
what can be had in the smallest build.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import re
from collections.abc import Mapping
from pathlib import Path

from harness.entry.install.pip import Target
from harness.system import releases
from harness.system.releases import Release
from harness.system.status import UsageProblem

TIMM = "1.0.31"
# For the emulated NPU: all tests are run with the first; the second is the last torch of which
# PyPI has a CPU build, on aarch64 alone.
EMULATED = "2.13.0"
LAST_CPU_BUILD = "2.10.0.post4"
OLDEST = (2, 7)
_CANN_HOMES = ("/usr/local/Ascend/ascend-toolkit/latest", "/usr/local/Ascend/cann")


@dataclasses.dataclass(frozen=True)
class Stack:
    """What to install; `release` is None for the stack that is installed already.

    `alternative`: taken where `release` comes as a CUDA build and this one does not.
    `emulated`: it is for the emulated NPU.
    """

    release: Release | None
    reason: str
    alternative: Release | None = None
    emulated: bool = False

    @property
    def name(self) -> str:
        """As STACK= names it."""
        return self.release.torch_npu if self.release is not None else "installed"


def requirements(release: Release) -> list[str]:
    """What pip is asked for, but for torch_npu itself, which goes without its dependencies.

    On x86_64 torch_npu pins a local version of torch that PyPI has not (torch==2.8.0+cpu).
    """
    vision = f"torchvision=={release.torchvision}" if release.torchvision else "torchvision"
    return [f"torch=={release.torch}", vision, f"timm=={TIMM}", *releases.UNDECLARED]


def choose(
    asked: str,
    target: Target,
    environ: Mapping[str, str] = os.environ,
    homes: tuple[str, ...] = _CANN_HOMES,
) -> Stack:
    """Settle the stack; `asked`: "auto" or "", "installed", or a release of torch_npu.

    Raises UsageProblem for a release that cannot be.
    """
    mine = installed()
    if asked in ("", "auto"):
        if mine is not None and target.here:
            return Stack(None, f"{mine} is installed in {target.python_text}: used as it is")
        found = cann(environ, homes) if target.here else None
        if found is not None:
            home, version = found
            release = releases.of_cann(version, target.python)
            if release is None:
                raise UsageProblem(
                    f"CANN {version} was found in {home}, and no torch_npu of the table has a "
                    f"wheel for Python {target.python}: give PYTHON= another, or STACK= a release."
                )
            return Stack(release, f"CANN {version} was found in {home}, torch_npu is not installed")
        reason = "no torch_npu and no CANN here: for the emulated NPU"
        # PyPI's x86_64 wheels of torch are CUDA builds, whichever the release.
        last = releases.find(LAST_CPU_BUILD) if target.machine == "aarch64" else None
        return Stack(_usable(EMULATED, target), reason, last, emulated=target.here)
    if asked == "installed":
        if mine is None:
            raise UsageProblem(
                f"STACK=installed, but {target.python_text} has no torch_npu: activate the "
                "environment that has, give PYTHON= its interpreter, or name a release."
            )
        return Stack(None, "asked for: what is installed, as it is")
    return Stack(_usable(asked, target), "asked for with STACK")


def _usable(name: str, target: Target) -> Release:
    release = releases.find(name)
    near = ", ".join(row.torch_npu for row in releases.known()[-8:])
    if release is None:
        raise UsageProblem(
            f"STACK={name} is no release of torch_npu: give one such as {near}, installed or auto."
        )
    if tuple(map(int, release.torch.split(".")[:2])) < OLDEST:
        raise UsageProblem(f"STACK={name}: torch_npu {OLDEST[0]}.{OLDEST[1]} or newer is needed.")
    if release.pythons and target.python not in release.pythons:
        raise UsageProblem(
            f"torch_npu {name} has wheels for Python {', '.join(release.pythons)}, not "
            f"{target.python}: give PYTHON= one of these, or another STACK."
        )
    return release


def installed() -> str | None:
    """torch_npu in the Python that runs this, with its version; None without."""
    try:
        return f"torch_npu {importlib.metadata.version('torch_npu')}"
    except importlib.metadata.PackageNotFoundError:
        return None


def cann(environ: Mapping[str, str], homes: tuple[str, ...]) -> tuple[Path, str] | None:
    """Where CANN stands and its version, by what its installer wrote; None without."""
    given = environ.get("ASCEND_HOME_PATH") or environ.get("ASCEND_TOOLKIT_HOME")
    for home in map(Path, [given] if given else homes):
        for pattern in ("ascend_*_install.info", "*/ascend_*_install.info"):
            for path in sorted(home.glob(pattern)):
                text = path.read_text(encoding="utf-8", errors="replace")
                match = re.search(r"^version\s*=\s*(\S+)", text, re.MULTILINE | re.IGNORECASE)
                if match:
                    return home, match[1]
    return None
