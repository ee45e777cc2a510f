"""The package as a wheel, built from a copy: setuptools leaves folders beside its sources."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from harness.system.files import ROOT
from harness.system.status import UsageProblem

_PARTS = ("harness", "cases", "pyproject.toml", "README.md", "LICENSE")


def write(folder: Path) -> Path:
    """Build the wheel into a folder; returns its path.

    pip fetches setuptools for it, unless it is told not to (PIP_NO_BUILD_ISOLATION=0, by pip's
    own reading of the variable).  Raises UsageProblem with pip's last line when it cannot.
    """
    with tempfile.TemporaryDirectory() as scratch:
        source, built = Path(scratch, "source"), Path(scratch, "built")
        source.mkdir()
        for name in _PARTS:
            path = ROOT / name
            if path.is_dir():
                shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(path, source)
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(built)]
        done = subprocess.run(
            [*command, "--disable-pip-version-check", str(source)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines() or ["no word of pip"]
            raise UsageProblem(f"The wheel could not be built: {said[-1]}")
        (wheel,) = built.glob("*.whl")
        folder.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(wheel, folder))
