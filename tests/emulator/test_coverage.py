"""coverage.json is true: every architecture agrees with the CPU and executes the listed operators.

Rewrite it with ``python -m harness.upgrade.precheck.survey``.
"""

from __future__ import annotations

import pytest
import torch

from harness.devices.emulator import Emulator
from harness.system import environment
from harness.upgrade.precheck import coverage, survey

TABLE = coverage.architectures()

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
def test_architecture(cann: Emulator, architecture: str) -> None:
    entry = TABLE[architecture]
    dtypes = [getattr(torch, name) for name in entry["dtypes"]]
    results = survey.compare(cann, architecture, *dtypes)
    for result in results:
        assert result.finite
        assert result.agrees, f"{result.dtype}: error {result.error:.1e}, limit {result.limit:.1e}"
        assert list(result.input_size) == entry["input_size"]
    if environment.version("timm") == coverage.timm():
        assert results[0].operators == entry["operators"]
    else:  # another timm builds some models otherwise; most of their operators stay
        common = results[0].operators.keys() & entry["operators"].keys()
        assert len(common) >= 0.9 * len(entry["operators"])


def test_the_table_is_written_as_it_is_read(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    before = coverage.PATH.read_text()
    monkeypatch.setattr(coverage, "PATH", tmp_path / "coverage.json")
    coverage.write(TABLE, "1.0.31")
    assert coverage.PATH.read_text() == before
    assert (coverage.architectures(), coverage.timm()) == (TABLE, "1.0.31")


def test_plain_tensors_move_with_their_module() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(1, 1))
    module[0].kept = torch.ones(1)  # type: ignore[assignment]
    module[0].index = torch.ones(1, dtype=torch.int64)  # type: ignore[assignment]
    survey.move(module, "cpu", torch.float16)
    kinds = (module[0].kept.dtype, module[0].index.dtype, module[0].weight.dtype)
    assert kinds == (torch.float16, torch.int64, torch.float16)


def test_a_small_fault_is_seen(cann: Emulator) -> None:
    from harness.devices.fault_plan import Fault, FaultPlan

    fault = Fault("scale_output", "Silu", magnitude=1.001, first=5, last=5)
    cann.set_faults(FaultPlan((fault,)))
    (result,) = survey.compare(cann, "efficientnet_b0")
    assert not result.agrees
