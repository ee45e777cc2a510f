"""Honest kernels of engines are accused of nothing, end to end and operator by operator."""

import os
import subprocess
import sys

import pytest

from harness.detection import engine_study, study_results
from harness.detection.engines import ENGINES
from harness.devices.spec import DeviceSpec
from harness.execution.settings import RunSettings
from harness.execution.sides import Sides
from harness.system.files import ROOT
from harness.system.status import Status

pytestmark = pytest.mark.engines

# Of eight families, small enough for seconds each.
MODELS = (
    *("test_resnet", "test_vit", "test_convnext", "test_efficientnet", "test_efficientnet_gn"),
    *("mobilenetv3_small_050", "efficientvit_m0", "levit_128s"),
)


@pytest.fixture
def study(cache_dir):
    sides = Sides(RunSettings(DeviceSpec("cpu"), cache_dir))

    def run(engine: str, **plan):
        for part in ("onnx", engine):
            pytest.importorskip(part, reason=f"{engine} is not installed: pip install '.[engines]'")
        plan = engine_study.EnginePlan(engines=(engine,), **plan)
        return engine_study.run(sides, plan, lambda text: None)

    yield run
    sides.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_honest_engines_are_as_right_as_the_cpu(study, engine):
    found = study(engine, models=MODELS)
    assert found.problems == ()
    assert {(row.model, row.status) for row in found.rows} == {(m, Status.PASS) for m in MODELS}
    assert all(0.3 < row.ratio and row.image_ratio < 4 for row in found.rows)
    assert [row for one in found.operators for row in one.culprits] == []
    kinds = [kind for one in found.operators for kind in one.kinds]
    assert sum(kind.compared for kind in kinds) > 800
    assert sum(kind.skipped for kind in kinds) < 20


def test_bfloat16_in_the_place_of_float16_is_accused(tmp_path, cache_dir):
    """OpenVINO's f16 hint computes in bfloat16 where the CPU has no float16 units."""
    openvino = pytest.importorskip("openvino", reason="pip install '.[engines]'")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has no bfloat16 units, so that the hint computes in float32")
    without_float16 = {
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16",
        "HARNESS_CACHE_DIR": str(cache_dir),
    }
    done = subprocess.run(
        [sys.executable, "-m", "harness", "study", "--engines", "openvino", "--formats", "float16",
         "--models", "test_resnet", "--operator-share", "0", "--output", str(tmp_path)],
        cwd=ROOT, env={**os.environ, **without_float16}, capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    found = study_results.load(tmp_path / "engines.json", study_results.EngineStudy)
    (row,) = found.rows
    assert row.status is Status.FAIL_ACCURACY and row.ratio > 4 > row.limit
    assert (tmp_path / "engines.md").read_text() in done.stdout
