"""Honest kernels of engines are accused of nothing, end to end and operator by operator."""

import pytest

from harness.detection import engine_study
from harness.detection.engines import ENGINES
from harness.devices.spec import DeviceSpec
from harness.execution.settings import RunSettings
from harness.execution.sides import Sides
from harness.system.status import Status

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


def test_bfloat16_in_the_place_of_float16_is_accused(study):
    """OpenVINO's f16 hint computes in bfloat16 where the CPU has no float16 units."""
    openvino = pytest.importorskip("openvino", reason="pip install '.[engines]'")
    if "FP16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has float16 units, which the hint then uses")
    found = study("openvino", models=("test_resnet", "test_vit"), formats=("float16",), share=0.0)
    assert {row.status for row in found.rows} == {Status.FAIL_ACCURACY}
