"""A folder of wheels for a host without a network: made here, read there."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from harness.entry.install import lock as locked
from harness.entry.install import pip, stack
from harness.entry.install.pip import Pip, Target
from harness.entry.install.stack import Stack
from harness.system.files import sha256_file
from harness.system.status import UsageProblem

MANIFEST = "manifest.json"


def write(folder: Path, chosen: Stack, target: Target) -> None:
    """Fetch everything that a run needs on a host, and write what it is for.

    A stack that is installed already brings the tools alone.  Raises UsageProblem.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise UsageProblem(f"{folder} is not empty and no bundle: name another folder.")
    tool = Pip(Path(sys.executable), target=target)
    with tempfile.TemporaryDirectory() as scratch:
        pins = Path(scratch, "constraints.txt")
        pins.write_text("\n".join(locked.constraints(locked.text())) + "\n", encoding="utf-8")
        release, total = chosen.release, 0
        if release is not None:
            own = [f"torch_npu=={release.torch_npu}"]
            asked = stack.requirements(release)
            fetches = tool.plan(own, "--no-deps") + tool.plan(asked, "-c", str(pins))
            total = pip.announce(fetches, folder)
        with tool.followed(total, folder):
            tool.download(["-r", str(locked.LOCK), "-r", str(locked.DEV)], folder, "--no-deps")
            if release is not None:
                tool.download(asked, folder, "-c", str(pins))
                tool.download(own, folder, "--no-deps")
    files = {
        path.name: sha256_file(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST
    }
    found = {
        "stack": chosen.name,
        "machine": target.machine,
        "python": target.python,
        "files": files,
    }
    (folder / MANIFEST).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    size = sum((folder / name).stat().st_size for name in files)
    print(f"{folder}: {len(files)} files, {size / 1e9:.2f} GB, for Python {target.python} on "
          f"{target.machine}; there: make accuracy WHEELS={folder.name}")  # fmt: skip


def read(folder: Path, target: Target) -> str:
    """The stack that a bundle was made for, once every file is what was fetched.

    Raises UsageProblem for a folder that is no bundle, one of another host, and a damaged one.
    """
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        name, made_for = str(found["stack"]), (found["machine"], found["python"])
        files = dict(found["files"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageProblem(
            f"WHEELS={folder} is no bundle of `make bundle`: no {MANIFEST}."
        ) from None
    if made_for != (target.machine, target.python):
        raise UsageProblem(
            f"WHEELS={folder} is for Python {made_for[1]} on {made_for[0]}, this is Python "
            f"{target.python} on {target.machine}: give PYTHON=python{made_for[1]}, or make a "
            f"bundle with FOR_PYTHON={target.python} FOR_MACHINE={target.machine}."
        )
    for name_of, digest in files.items():
        path = folder / Path(name_of).name
        if not path.is_file() or sha256_file(path) != digest:
            raise UsageProblem(
                f"WHEELS={folder}: {path.name} is missing or damaged: copy it again."
            )
    return name
