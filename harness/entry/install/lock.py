"""The harness' tools with their hashes, in two locks; the stack under test is in neither."""

from __future__ import annotations

import re
import sys

from harness.system.files import ROOT

LOCK = ROOT / "requirements.lock"  # of a run
DEV = ROOT / "requirements-dev.lock"  # of the tests and the linters, beside those of a run
STACK = ("torch", "torch-npu", "torchvision", "timm")


def text(*, tests: bool = True) -> str:
    """The lock of a run, with that of the tests after it where they are wanted."""
    return "".join(path.read_text(encoding="utf-8") for path in (LOCK, DEV)[: 1 + tests])


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


def inputs(*, tests: bool = True) -> list[str]:
    """What pyproject.toml asks for, without the stack, for a run or for the tests as well."""
    from harness.system.toml import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    for extra in ("sample", "dev")[: 1 + tests]:
        wanted += project["optional-dependencies"][extra]
    name = re.compile(r"[\w.-]+")
    return [text for text in wanted if normal(name.match(text)[0]) not in STACK]  # type: ignore[index]


if __name__ == "__main__":
    if "--beyond" in sys.argv:  # a lock on stdin without what the lock of a run has
        own = {normal(pin.partition("==")[0]) for pin in constraints(text(tests=False))}
        sys.stdout.write(without(sys.stdin.read(), own))
    elif "--inputs" in sys.argv:
        print("\n".join(inputs(tests="--tests" in sys.argv)))
    else:
        print("\n".join(constraints(text())))
