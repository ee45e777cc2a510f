"""requirements.lock: the harness' tools with their hashes; the stack under test is not in it."""

from __future__ import annotations

import re
import sys

from harness.system.files import ROOT

LOCK = ROOT / "requirements.lock"
STACK = ("torch", "torch-npu", "torchvision", "timm")


def constraints(lock: str) -> list[str]:
    """The pins of a lock without its hashes: as constraints, hashes would be asked of torch too."""
    return [line.rstrip(" \\") for line in lock.splitlines() if re.match(r"[\w.-]+==", line)]


def without(lock: str, names: set[str]) -> str:
    """A lock without some packages, named as pip normalises them."""
    kept, skips = [], False
    for line in lock.splitlines():
        if match := re.match(r"([\w.-]+)==", line):
            skips = normal(match[1]) in names
        if not skips:
            kept.append(line)
    return "\n".join(kept) + "\n"


def normal(name: str) -> str:
    """A package's name as pip compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def inputs(extras: tuple[str, ...] = ("sample", "dev")) -> list[str]:
    """What pyproject.toml asks for, without the stack."""
    from harness.system.toml import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    name = re.compile(r"[\w.-]+")
    return [text for text in wanted if normal(name.match(text)[0]) not in STACK]  # type: ignore[index]


if __name__ == "__main__":
    lines = inputs() if "--inputs" in sys.argv else constraints(LOCK.read_text(encoding="utf-8"))
    print("\n".join(lines))
