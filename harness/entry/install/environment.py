"""The harness' virtual environment: tools of the lock in it, the stack in it or beside it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import site
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness.entry.install import bundle, pip, stack
from harness.entry.install import lock as locked
from harness.entry.install.lock import normal
from harness.entry.install.pip import Fetch, Pip, Target
from harness.entry.install.stack import Stack
from harness.system import torchvision_shim
from harness.system.files import ROOT
from harness.system.releases import Release
from harness.system.status import UsageProblem

STAMP = "stack.json"  # in the environment: what was installed, and why
_BESIDE = "_users_packages.pth"
# Read at every start of Python in the environment, so that scripts which do not know the harness
# can import torch, which loads torch_npu, which needs CANN; and torchvision, and timm.
_IMPORTS, _SHIM = "npu_accuracy_imports.pth", "_npu_accuracy_torchvision"
_AT_START = (
    f"import os, {_SHIM}; {_SHIM}.install(); os.environ.get('ASCEND_HOME_PATH') or "
    "os.environ.setdefault('TORCH_DEVICE_BACKEND_AUTOLOAD', '0')\n"
)


def renew(directory: Path, asked: str, wheels: Path | None, *, tests: bool = False) -> None:
    """Make the environment, or bring it up to date; quick where nothing has changed.

    `asked`: as STACK= gives it; `wheels`: a bundle to install from without a network; `tests`: also
    what the tests and the linters need, which stays.  Packages of the Python that runs this are
    never changed.  Raises UsageProblem.
    """
    before = _stamp(directory).get("wanted")
    tests = tests or bool(before and before.get("tests"))
    wanted = {
        "asked": asked or "auto",
        "lock": hashlib.sha256(locked.text(tests=tests).encode()).hexdigest(),
        "tests": "yes" if tests else "",
        "python": f"{sys.executable} {sys.version.split()[0]}",
        "beside": stack.installed() or "",
        "wheels": str(wheels.resolve()) if wheels is not None else "",
        "imports": hashlib.sha256(_AT_START.encode() + _shim().read_bytes()).hexdigest(),
    }
    if before == wanted:
        return
    target = Target.of()
    packed = bundle.read(wheels, target) if wheels is not None else None
    if packed is not None and asked in ("", "auto"):
        asked = packed
    chosen = stack.choose(asked, target)
    python = _make(directory)
    offline = ["--no-index", "--find-links", str(wheels)] if wheels is not None else []
    _install(Pip(python, offline), chosen, directory, python, wanted)


def _install(
    tool: Pip, chosen: Stack, directory: Path, python: Path, wanted: dict[str, str]
) -> None:
    lock = locked.text(tests=bool(wanted["tests"]))
    with tempfile.TemporaryDirectory() as scratch:
        pins, tools = Path(scratch, "constraints.txt"), Path(scratch, "tools.lock")
        pins.write_text("\n".join(locked.constraints(locked.text())) + "\n", encoding="utf-8")
        fetches: list[Fetch] = []
        release = chosen.release
        if release is None:
            lock = locked.without(lock, _beside(python))
        else:
            # All that can be refused is refused here, before anything is fetched.
            release, fetches = _plan(tool, release, chosen.alternative, pins)
        tools.write_text(lock, encoding="utf-8")
        total = pip.announce(fetches, directory)
        name = release.torch_npu if release is not None else chosen.name
        print(f"Stack: {name} ({chosen.reason})", flush=True)
        with tool.followed(total, directory):
            if release is not None:
                # Alone: what they need comes with the lock's hashes where it is in the lock.
                pair = [f"torch=={release.torch}", f"torch_npu=={release.torch_npu}"]
                tool.install(pair, "--no-deps")
                if chosen.emulated:
                    _build_beside(python)
            tool.install(["-r", str(tools)], "--no-deps")
            if release is not None:
                tool.install(stack.requirements(release), "-c", str(pins))
    make_importable(python)
    if sys.dont_write_bytecode:
        _compile(python, directory)
    found = {
        "wanted": wanted,
        "stack": name,
        "reason": chosen.reason,
        "cuda_build": any(fetch.is_cuda for fetch in fetches),
    }
    (directory / STAMP).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _build_beside(python: Path) -> None:
    """Compile the emulator while pip, which uses one core, installs the rest.

    A run waits for it (`build.ensure_built`), and says what went wrong where something did.
    """
    code = "import os; os.nice(10); from harness.devices.emulator import build; "
    subprocess.Popen(
        [str(python), "-c", code + "build.ensure_built()"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _compile(python: Path, directory: Path) -> None:
    """Compile all Python modules of an environment, on all cores.

    pip did not, and with PYTHONDONTWRITEBYTECODE, as in many containers, nothing that is imported
    is kept: every process would compile torch and the rest anew.
    """
    command = [str(python), "-m", "compileall", "-q", "-j", "0", "-x", r"[\\/]tests?[\\/]"]
    # Some packages have files for other versions of Python, which do not compile.
    subprocess.run([*command, str(directory / "lib")], check=False, capture_output=True)


def _plan(
    tool: Pip, release: Release, alternative: Release | None, pins: Path
) -> tuple[Release, list[Fetch]]:
    def of(candidate: Release) -> list[Fetch]:
        # torch_npu first: what is wrong with it is said at once.
        own = tool.plan([f"torch_npu=={candidate.torch_npu}"], "--no-deps")
        return own + tool.plan(stack.requirements(candidate), "-c", str(pins))

    found = of(release)
    if alternative is not None and any(fetch.is_cuda for fetch in found):
        smaller = of(alternative)
        if not any(fetch.is_cuda for fetch in smaller):
            return alternative, smaller
    return release, found


def _make(directory: Path) -> Path:
    """A fresh environment; another's folder is not touched.  Raises UsageProblem."""
    if directory.exists() and not (directory / "pyvenv.cfg").is_file():
        raise UsageProblem(f"{directory} is no virtual environment: give VENV= another folder.")
    (directory / STAMP).unlink(missing_ok=True)
    python = directory / "bin" / "python"
    made = _version_of(python)
    if made is not None and made != sys.version.split()[0]:
        shutil.rmtree(directory)
    done = subprocess.run(
        [sys.executable, "-m", "venv", str(directory)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines() or ["no message"]
        raise UsageProblem(f"No virtual environment could be made in {directory}: {said[-1]}")
    return python.absolute()


def _beside(python: Path) -> set[str]:
    """Show the environment the packages of the Python that runs this; returns their names.

    They come last on its path, so that nothing is copied, changed or hidden.  A plain
    --system-site-packages would not do: for an environment inside an environment it shows those
    of the outermost Python.
    """
    folders = [*site.getsitepackages(), site.getusersitepackages()]
    shown = [folder for folder in folders if Path(folder).is_dir()]
    (_packages(python) / _BESIDE).write_text("\n".join(shown) + "\n", encoding="utf-8")
    found = importlib.metadata.distributions(path=shown)
    return {normal(item.metadata["Name"]) for item in found if item.metadata["Name"]}


def make_importable(python: Path) -> None:
    """Make `import torch` and `import timm` work in any script of an environment."""
    folder = _packages(python)
    shutil.copyfile(_shim(), folder / f"{_SHIM}.py")
    (folder / _IMPORTS).write_text(_AT_START, encoding="utf-8")


def _shim() -> Path:
    return Path(torchvision_shim.__file__)


def _packages(python: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    return Path(own.stdout.strip())


def _stamp(directory: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((directory / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if os.access(directory / "bin" / "python", os.X_OK) else {}


def taken() -> tuple[str, str] | None:
    """The stack of the environment that this process runs in, and why; None in another."""
    found = _stamp(Path(sys.prefix))
    return (str(found["stack"]), str(found["reason"])) if "stack" in found else None


def _version_of(python: Path) -> str | None:
    try:
        code = "import sys; print(sys.version.split()[0])"
        done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
