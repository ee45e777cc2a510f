"""Pre-check of a torch_npu upgrade without hardware: each version in its own venv, on the emulator.

What it can find: a version that does not install or import, an attribute that the harness uses and
that is gone, a default that changed, an operator that is missing, falls back to the CPU or
computes something else.  What it cannot: anything of CANN itself, kernels, speed.  EMULATED.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from harness.devices.emulator.build import UNTRIED
from harness.system import environment, releases
from harness.system.files import ROOT
from harness.system.status import ExitCode, worst_exit_code
from harness.upgrade.precheck.probe import ABSENT, MARK, REQUIRED

INSTALLED = "installed"  # this Python environment, without a venv
_COVERAGE = Path(__file__).with_name("coverage.json")
_INSTALL_SECONDS = 3600
_PROBE_SECONDS = 1800
# What the probe imports beside torch and torch_npu, at this environment's versions: then only the
# stack under test differs.
_PINNED = ("timm", "numpy", "scipy", "safetensors", "pydantic", "jinja2", "filelock", "pillow")

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Model:
    """One architecture: why it did not run, or its error (in logit spreads), and its operators."""

    problem: str = ""
    error: float = 0.0
    agrees: bool = False
    operators: Mapping[str, int] = dataclasses.field(default_factory=dict)
    fallbacks: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Checked:
    """One version.

    `unavailable`: why it could not be installed here; `problem`: why it does not load on the
    emulator; both "" when it was probed.
    """

    version: str
    unavailable: str = ""
    problem: str = ""
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    attributes: Mapping[str, str] = dataclasses.field(default_factory=dict)
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
        if self.fallbacks:
            found.append(f"run on the CPU instead: {', '.join(self.fallbacks)}")
        return tuple(found)


def catalogue() -> dict[str, dict[str, Any]]:
    """The surveyed architectures with the operators that each executes."""
    table: dict[str, dict[str, Any]] = json.loads(_COVERAGE.read_text(encoding="utf-8"))
    return table


def needed_operators() -> frozenset[str]:
    """Every operator that one of the surveyed architectures executes."""
    return frozenset(name for entry in catalogue().values() for name in entry["operators"])


def covering_architectures() -> list[str]:
    """Few architectures that together execute every operator of the catalogue (greedy cover).

    Those with many new operators for few calls come first.
    """
    table, left, chosen = catalogue(), set(needed_operators()), []
    while left:
        best = max(table, key=lambda name: (_gain(table[name]["operators"], left), name))
        chosen.append(best)
        left -= table[best]["operators"].keys()
    return chosen


def _gain(operators: Mapping[str, int], left: Set[str]) -> float:
    return float(len(left & operators.keys()) / sum(operators.values()) ** 0.3)


def check(version: str, architectures: Sequence[str], work: Path, say: Say) -> Checked:
    """Install a version in its own venv below `work`, kept for the next time, and probe it."""
    if version == INSTALLED:
        return _probe(version, Path(sys.executable), architectures, say)
    directory = work / f"torch_npu-{version}-py{sys.version_info.major}{sys.version_info.minor}"
    python = directory / "bin" / "python"
    done = directory / ".installed"
    if not done.exists():
        if not python.exists():
            say(f"{version}: making a venv")
            made = _run([sys.executable, "-m", "venv", str(directory)], _INSTALL_SECONDS)
            if made.returncode:
                return Checked(version, unavailable=f"no venv could be made: {_last_error(made)}")
        if reason := _install(version, python, say):
            shutil.rmtree(directory, ignore_errors=True)
            return Checked(version, unavailable=reason)
        done.touch()
    return _probe(version, python, architectures, say)


def exit_code(found: Sequence[Checked]) -> ExitCode:
    """1 when a version has a failure, 12 when one could not be tried."""
    codes = {ExitCode.FAILED for item in found if item.failures}
    codes |= {ExitCode.INCOMPLETE for item in found if item.unavailable}
    return worst_exit_code(codes)


def _install(version: str, python: Path, say: Say) -> str:
    """Install; returns why that is not possible, "" when it was."""
    wanted = [f"torch_npu=={version}", *releases.UNDECLARED]
    wanted += [
        f"{name}=={own}" for name in _PINNED if (own := environment.version(name))[:1].isdigit()
    ]
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    say(f"{version}: asking pip what it needs")
    alone = _run([*pip, "--dry-run", "--no-deps", "--report", "-", wanted[0]], _INSTALL_SECONDS)
    if alone.returncode:
        return f"pip finds no torch_npu {version} for this machine: {_last_error(alone)}"
    needs = _needed_torch(alone.stdout)
    plan = _run([*pip, "--dry-run", "--report", "-", *wanted], _INSTALL_SECONDS)
    if plan.returncode:
        return f"it needs {needs}, which pip cannot get here: {_last_error(plan)}"
    if cuda := _cuda_torch(plan.stdout):
        return (
            f"it needs {needs}, and pip would take torch {cuda}, a CUDA build, beside which "
            "torch_npu aborts: set PIP_EXTRA_INDEX_URL to PyTorch's CPU index"
        )
    say(f"{version}: installing")
    done = _run([*pip, *wanted], _INSTALL_SECONDS)
    return f"pip could not install it: {_last_error(done)}" if done.returncode else ""


def _probe(version: str, python: Path, architectures: Sequence[str], say: Say) -> Checked:
    say(f"{version}: loading it on the emulator, {len(architectures)} architectures")
    command = [str(python), "-m", "harness.upgrade.precheck.probe", *architectures]
    own = {"PYTHONPATH": str(ROOT), UNTRIED: "1"}
    done = _run(command, _PROBE_SECONDS, {**os.environ, **own})
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if not lines:
        tail = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        return Checked(version, problem=f"the process ended with code {done.returncode}: {tail}")
    return read(version, json.loads(lines[-1].removeprefix(MARK)))


def read(version: str, answer: Mapping[str, Any]) -> Checked:
    """Make a result of what the probe printed."""
    models = {
        name: Model(**{**raw, "fallbacks": tuple(raw.get("fallbacks", ()))})
        for name, raw in answer["models"].items()
    }
    return Checked(
        version,
        problem=answer["problem"],
        versions=answer["versions"],
        attributes=answer["attributes"],
        models=models,
    )


def _needed_torch(report: str) -> str:
    """The torch that a wheel's metadata asks for."""
    items = json.loads(report)["install"]
    required = items[0]["metadata"].get("requires_dist", []) if items else []
    return next((text for text in required if text.split("=")[0].strip() == "torch"), "some torch")


def _cuda_torch(report: str) -> str | None:
    """Version of torch when pip would take a CUDA build; None for a CPU build."""
    found = {
        item["metadata"]["name"].lower(): item["metadata"] for item in json.loads(report)["install"]
    }
    torch = found.get("torch")
    bundled = any(name.startswith(("nvidia-", "cuda-")) for name in found)
    return str(torch["version"]) if torch is not None and bundled else None


def _last_error(done: subprocess.CompletedProcess[str]) -> str:
    """The sentence of pip that says most: its first ERROR that names a requirement."""
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
    telling = [line for line in errors if "requirement" in line or "Cannot install" in line]
    text = (telling or errors or done.stderr.strip().splitlines() or ["no message"])[0]
    return text.removeprefix("ERROR:").partition(" (from versions:")[0].strip()[:300]


def _run(
    command: Sequence[str], timeout: float, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=env,
            cwd=ROOT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"no end within {timeout:g} s")
