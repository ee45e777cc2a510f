"""What the contracts in pyproject.toml cannot say about the rooms."""

import ast
from pathlib import Path

import pytest

from harness.system.files import ROOT
from tests import structure

PACKAGE = ROOT / "harness"
# The emulator is a library of its own within its room, and its face is written out.
ROOMS = [path for path in sorted(PACKAGE.rglob("*/__init__.py")) if path.parent.name != "emulator"]
# Who loads torch as soon as it is imported, beside what lies in execution/ and qualification/.
WITH_TORCH = {
    "cases/models/calibration.py",  # sets random weights in a forward pass; loaded for that alone
    "cases/models/origins.py",
    "cases/models/promotion.py",  # acts on a model; loaded where there is one
    "detection/engines.py",  # exports models and operators
    "devices/cpu.py",
    "devices/cuda.py",
    "devices/dispatcher.py",  # asks torch's dispatcher; the devices alone import it
    "devices/npu.py",
    "upgrade/precheck/survey.py",  # runs models on both sides, in a process of its own
}


def loaded_with(path: Path) -> set[str]:
    """The packages that a module imports as soon as it is imported itself."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


@pytest.mark.parametrize("path", ROOMS, ids=lambda path: str(path.parent.relative_to(PACKAGE)))
def test_a_room_has_a_docstring_and_no_import(path):
    first, *rest = ast.parse(path.read_text()).body
    assert isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    assert isinstance(first.value.value, str) and not loaded_with(path)
    assert not rest or path.parent.name == "npu_accuracy"  # names its modules to pytest


def test_torch_is_loaded_by_what_computes_alone():
    found = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if loaded_with(path) & {"torch", "torch_npu", "torchvision", "timm"}
    }
    computing = ("execution/", "qualification/")
    assert {name for name in found if not name.startswith(computing)} == WITH_TORCH


def test_the_house_has_no_circle_and_nothing_runs_back_up(tmp_path):
    found = structure.measure(ROOT)
    assert (found["circles of modules"], found["imports that run back up"]) == (0, 0)
    assert found["entries at the top"] <= 15  # thirteen rooms, `api`, `__main__`
    room = tmp_path / "in_a_circle"
    room.mkdir()
    (room / "__init__.py").touch()
    for name, other in ("ab", "bc", "ca"):
        (room / f"{name}.py").write_text(f"from in_a_circle import {other}\n")
    assert structure.measure(tmp_path, room.name) == {
        "entries at the top": 3,
        "modules": 3,
        "imports": 3,
        "circles of modules": 1,
        "modules in circles": 3,
        "imports that run back up": 1,
    }
