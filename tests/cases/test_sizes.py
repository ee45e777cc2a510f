"""What cases cost is known without building a model, and limits choose by it."""

import argparse
import json

import pytest

from harness.cases import architectures, case_files, sizes
from harness.cases.case import ModelSource
from harness.cases.sizes import Limits
from harness.system.status import UsageProblem
from harness.system.torchvision_shim import import_timm
from tests.makers.cases import case


def test_limits_choose_by_parameters_arithmetic_and_memory():
    cases = [case("resnet18"), case("vit_base_patch16_224"), case("no_such_model")]

    def left(**limits):
        return [case.model.ref for case in sizes.apply(cases, Limits(**limits))]

    assert left() == [case.model.ref for case in cases]
    assert left(parameters=30_000_000) == ["resnet18"]
    assert left(parameters=90_000_000) == ["resnet18", "vit_base_patch16_224"]
    assert left(macs=2 * 10**9) == ["resnet18"]
    assert left(memory=200 * 10**6) == ["resnet18"]
    assert left(memory=10**6) == []


def test_half_precision_needs_half_the_memory():
    full, half = (sizes.memory(case("resnet18", dtype=name)) for name in ("float32", "float16"))
    assert full == 2 * half


def test_a_directory_has_the_size_of_its_architecture(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet18.a1_in1k"}))
    assert sizes.of(case(str(tmp_path), "directory").model) == architectures.find("resnet18")
    (tmp_path / "config.json").write_text("[")
    assert sizes.of(case(str(tmp_path), "directory").model) is None
    assert sizes.of(ModelSource("sample", "efficientnet-lite0")).name == "tf_efficientnet_lite0"


def test_families_are_timm_s_modules():
    found = case_files.select([], case_files.Selection(families=("volo",)))
    assert {c.model.ref for c in found} == set(import_timm().list_models(module="volo"))
    assert {c.numerics for c in found} == {"default", "strict"}
    with pytest.raises(UsageProblem, match="matches no family.*vision_transformer"):
        case_files.select([], case_files.Selection(families=("vision_transfomer",)))


@pytest.mark.parametrize(
    ("text", "value"), [("30M", 30_000_000), ("4.5G", 4_500_000_000), ("12", 12), ("1k", 1000)]
)
def test_numbers_are_read(text, value):
    assert sizes.count(text) == value


@pytest.mark.parametrize("text", ["30MB", "", "x", "-1", "1 B"])
def test_what_is_no_number(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a number"):
        sizes.count(text)


def test_shards_are_balanced_by_size_where_no_duration_is_known(monkeypatch):
    cases = [case("resnet18"), case("test_resnet"), case("no_such_model")]
    monkeypatch.setattr(architectures, "measure", lambda name: pytest.fail(f"measured {name}"))
    found = sizes.weights(cases)
    assert set(found) == {cases[0].id, cases[1].id}
    assert found[cases[0].id] > found[cases[1].id]
