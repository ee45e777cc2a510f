from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.cases.case import InputSource, ModelSource
from harness.records import results_file
from harness.records.lines import CaseRecord
from harness.system.files import ROOT

if TYPE_CHECKING:
    from harness.execution.legs import LegRequest


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory) -> Path:
    """One cache for all tests of a run; the emulator's build, which costs most, is kept longer."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def tiny_model(cache_dir) -> Path:
    """A small timm directory whose weights tell images apart."""
    from harness.cases.models import loading

    return loading.materialise(
        ModelSource("architecture", "test_resnet", num_classes=50), cache_dir
    )


@pytest.fixture(scope="session")
def leg_request(tiny_model, cache_dir) -> LegRequest:
    """The small model on two images, one forward repeated once."""
    from harness.cases import inputs
    from harness.cases.models import loading
    from harness.cases.models.model_files import ModelFiles
    from harness.execution.legs import LegRequest

    config = loading.load_model(tiny_model).data_config
    return LegRequest(
        model=ModelFiles(tiny_model),
        inputs=inputs.prepare_inputs(InputSource("synthetic", count=2), config, cache_dir),
        dtype="float32",
        batch_size=2,
        numerics="strict",
        repeat=1,
    )


@pytest.fixture
def copy_of(tiny_model, tmp_path):
    """Make a copy of the small model under a name, to be broken by a test."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(tiny_model, tmp_path / name))

    return copy


@dataclasses.dataclass
class Finished:
    """A harness run that ended."""

    code: int
    text: str
    results: Path

    @property
    def run(self) -> results_file.Run:
        return results_file.read(self.results / "results.jsonl")

    @property
    def cases(self) -> dict[str, CaseRecord]:
        return {case.case.model.name: case for case in self.run.cases}


@pytest.fixture
def harness_run(tmp_path, cache_dir):
    """Run the accuracy cases in a process of their own, as a user does."""

    def run(*options: str, cases: str | None = None, env: dict[str, str] | None = None) -> Finished:
        if cases is not None:
            path = tmp_path / "cases.toml"
            path.write_text(cases, encoding="utf-8")
            options = (*options, "--case-file", str(path))
        results = tmp_path / "results"
        done = subprocess.run(
            [sys.executable, "-m", "harness", "run", "--results", str(results), *options,
             "-p", "no:cacheprovider"],
            cwd=ROOT,
            env={**os.environ, "HARNESS_CACHE_DIR": str(cache_dir), **(env or {})},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )  # fmt: skip
        return Finished(done.returncode, done.stdout + done.stderr, results)

    return run
