"""coverage.json is true: every architecture agrees with the CPU and executes the listed operators.

Rewrite it with ``python -m harness.upgrade.precheck.survey``.
"""

from __future__ import annotations

import pytest
import torch

from harness.devices.emulator import Emulator
from harness.upgrade.precheck import survey

TABLE = survey.read_coverage()

# Per family that has to be covered, how its architectures' names begin.
FAMILIES = (
    "resnet resnext regnet efficientnet mobilenetv2 mobilenetv3 mobilenetv4 mobileone repvgg "
    "densenet convnext_ convnextv2 vit_ deit beit eva swin_ swinv2 mixer mobilevit efficientvit "
    "poolformer maxvit coatnet levit ghostnet hrnet dla vgg inception nfnet edgenext fastvit "
    "hiera xcit cait tinynet tf_efficientnet_lite"
).split()


@pytest.mark.parametrize("family", FAMILIES)
def test_family_is_covered(family: str) -> None:
    assert [name for name in TABLE if name.startswith(family)]


def test_size_of_the_table() -> None:
    assert len(TABLE) >= 60
    for dtype in ("float16", "bfloat16"):
        assert sum(dtype in entry["dtypes"] for entry in TABLE.values()) >= 20


@pytest.mark.parametrize("architecture", sorted(TABLE))
def test_architecture(npu: Emulator, architecture: str) -> None:
    entry = TABLE[architecture]
    dtypes = [getattr(torch, name) for name in entry["dtypes"]]
    results = survey.compare(npu, architecture, *dtypes)
    for result in results:
        assert result.finite
        assert result.agrees, f"{result.dtype}: error {result.error:.1e}, limit {result.limit:.1e}"
        assert list(result.input_size) == entry["input_size"]
    assert results[0].operators == entry["operators"]


def test_a_small_fault_is_seen(npu: Emulator) -> None:
    from harness.devices.fault_plan import Fault, FaultPlan

    fault = Fault("scale_output", "Silu", magnitude=1.001, first=5, last=5)
    npu.set_faults(FaultPlan((fault,)))
    (result,) = survey.compare(npu, "efficientnet_b0")
    assert not result.agrees
