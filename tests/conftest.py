from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.cases.case import InputSource, ModelSource
from tests.makers.runs import Finished, run_harness

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


@pytest.fixture
def harness_run(tmp_path, cache_dir) -> functools.partial[Finished]:
    """Run the accuracy cases in a process of their own, as a user does."""
    return functools.partial(run_harness, tmp_path, cache_dir)
