"""Pre-check of a torch_npu upgrade without hardware: each release on the emulator.

What it can find: a version that does not install or import, an attribute that the harness uses and
that is gone, a default that changed, an operator that is missing, falls back to the CPU or
computes something else.  What it cannot: anything of CANN itself, kernels, speed.  EMULATED.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from harness.system import environment
from harness.system.files import ROOT
from harness.system.status import ExitCode, worst_exit_code
from harness.upgrade.precheck import coverage, stacks
from harness.upgrade.precheck.probe import ABSENT, MARK, REQUIRED
from harness.upgrade.precheck.stacks import Say, Stack

INSTALLED = "installed"  # this Python environment as it is
_PROBE_SECONDS = 1800
# What the probe imports beside torch and torch_npu, at this environment's versions: then only the
# stack under test differs.
_PINNED = (
    *("timm", "numpy", "scipy", "safetensors", "pydantic", "jinja2", "filelock", "pillow"),
    "packaging",
)


@dataclasses.dataclass(frozen=True)
class Model:
    """One architecture: why it did not run, or its error (in logit spreads), and its operators.

    `half`: dtype -> error, for the reduced formats that do not agree; `formats`: those that ran;
    `outputs`: what each operator wrote, as "Add float32[2, 64]" -> how often.
    """

    problem: str = ""
    error: float = 0.0
    agrees: bool = False
    formats: tuple[str, ...] = ()
    half: Mapping[str, float] = dataclasses.field(default_factory=dict)
    outputs: Mapping[str, int] = dataclasses.field(default_factory=dict)
    operators: Mapping[str, int] = dataclasses.field(default_factory=dict)
    fallbacks: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Checked:
    """One version.

    `unavailable`: why it could not be tried here; `problem`: why it does not load on the emulator;
    both "" when it was probed.  `note`: where it ran.  `names`: public names of torch_npu.npu;
    `options`: torch_npu's options as they come.
    """

    version: str
    unavailable: str = ""
    problem: str = ""
    note: str = ""
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    attributes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    names: tuple[str, ...] = ()
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    models: Mapping[str, Model] = dataclasses.field(default_factory=dict)

    @property
    def operators(self) -> frozenset[str]:
        """Every operator of CANN that ran."""
        return frozenset(name for model in self.models.values() for name in model.operators)

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """Operators that ran on the CPU instead."""
        return tuple(sorted({name for m in self.models.values() for name in m.fallbacks}))

    @property
    def missing_attributes(self) -> tuple[str, ...]:
        """Attributes that the harness cannot do without."""
        return tuple(n for n in REQUIRED if self.attributes.get(n, ABSENT) == ABSENT)

    @property
    def failures(self) -> tuple[str, ...]:
        """A sentence for everything that is wrong with this version."""
        if self.unavailable:
            return ()
        if self.problem:
            return (f"it does not load: {self.problem}",)
        found = [f"{name} is gone" for name in self.missing_attributes]
        for name, model in self.models.items():
            if model.problem:
                found.append(f"{name} does not run: {model.problem}")
            elif not model.agrees:
                found.append(f"{name} computes something else: error {model.error:.1e}")
            for dtype, error in model.half.items():
                found.append(f"{name} computes something else in {dtype}: error {error:.1e}")
        if self.fallbacks:
            found.append(f"run on the CPU instead: {', '.join(self.fallbacks)}")
        return tuple(found)


def needed_operators() -> frozenset[str]:
    """Every operator that one of the surveyed architectures executes."""
    return frozenset(
        name for entry in coverage.architectures().values() for name in entry["operators"]
    )


def covering_architectures() -> list[str]:
    """Few architectures that together execute every operator of the catalogue (greedy cover).

    Those with many new operators for few calls come first.
    """
    table, left, chosen = coverage.architectures(), set(needed_operators()), []
    while left:
        best = max(table, key=lambda name: (_gain(table[name]["operators"], left), name))
        chosen.append(best)
        left -= table[best]["operators"].keys()
    return chosen


def _gain(operators: Mapping[str, int], left: Set[str]) -> float:
    return float(len(left & operators.keys()) / sum(operators.values()) ** 0.3)


def check(version: str, architectures: Sequence[str], work: Path, say: Say) -> Checked:
    """Get a version (wheels and venvs are kept below `work`) and probe it.

    Raises UsageProblem where `version` is none.
    """
    if version == INSTALLED:
        return probe(version, Stack(Path(sys.executable)), architectures, say)
    release = stacks.version(version)
    pins = [
        f"{name}=={own}" for name in _PINNED if (own := environment.version(name))[:1].isdigit()
    ]
    try:
        stack = stacks.stack(release, pins, work, say)
    except stacks.Unavailable as reason:
        return Checked(version, unavailable=str(reason))
    return probe(version, stack, architectures, say)


def exit_code(found: Sequence[Checked]) -> ExitCode:
    """1 when a version has a failure, 12 when one could not be tried."""
    codes = {ExitCode.FAILED for item in found if item.failures}
    codes |= {ExitCode.INCOMPLETE for item in found if item.unavailable}
    return worst_exit_code(codes)


def probe(version: str, stack: Stack, architectures: Sequence[str], say: Say) -> Checked:
    """Load a version on the emulator, in a process of its own, and run `architectures`."""
    say(f"{version}: loading it on the emulator, {len(architectures)} architectures")
    command = [str(stack.python), "-m", "harness.upgrade.precheck.probe", *architectures]
    env = stack.env if stack.folder else {**os.environ, "PYTHONPATH": str(ROOT)}
    done = stacks.run(command, _PROBE_SECONDS, env)
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if not lines:
        tail = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        return Checked(version, problem=f"the process ended with code {done.returncode}: {tail}")
    found = read(version, json.loads(lines[-1].removeprefix(MARK)))
    return dataclasses.replace(found, note=stack.note)


def read(version: str, answer: Mapping[str, Any]) -> Checked:
    """Make a result of what the probe printed."""
    models = {}
    for name, raw in answer["models"].items():
        listed = {key: tuple(raw.get(key, ())) for key in ("fallbacks", "formats")}
        models[name] = Model(**{**raw, **listed})
    return Checked(
        version,
        unavailable=answer["emulator"],  # what the emulator lacks says nothing about the version
        problem=answer["problem"],
        versions=answer["versions"],
        attributes=answer["attributes"],
        names=tuple(answer["names"]),
        options=answer["options"],
        models=models,
    )
