"""What cases cost is known without building a model, and limits choose by it."""

import argparse
import json
import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from harness.cases import architectures, case_files, sizes
from harness.cases.case import ModelSource
from harness.cases.sizes import Limits
from harness.entry.pytest_plugin import listing
from harness.system import environment
from harness.system.files import ROOT
from harness.system.status import UsageProblem
from harness.system.torchvision_shim import import_timm
from tests.makers.cases import case


def test_the_table_knows_every_architecture_of_its_timm():
    version, rows = architectures.table()
    if version != environment.version("timm"):
        pytest.skip(f"the table is timm {version}'s")
    timm = import_timm()
    assert set(rows) == set(timm.list_models())
    modules = {module.rpartition(".")[2] for module in timm.list_modules()}
    assert {row.family for row in rows.values()} <= modules
    assert architectures.names() == sorted(rows)


# Per layer two products of all tokens with all tokens, which the counter does not see in the CPU's
# fused attention: 101 tokens of 64 numbers, 6 layers.
ATTENTION = {"test_vit": 6 * 2 * 101**2 * 64}


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "mobilenetv3_small_050"])
def test_the_table_is_what_a_built_model_has(name):
    found = architectures.find(name)
    model = import_timm().create_model(name).eval()
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert found.input_size == model.pretrained_cfg["input_size"]
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        model(torch.zeros(1, *found.input_size))
    assert found.macs == flops.get_total_flops() // 2 + ATTENTION.get(name, 0)
    assert architectures.measure(name) == found


def test_the_largest_operator_is_counted_with_what_it_reads():
    found = architectures.find("test_resnet")
    first = 3 * 160 * 160 + 16 * 80 * 80  # what the stem's convolution reads and writes
    assert found.largest >= first
    assert found.memory_bytes(8, 4) == 4 * (found.parameters + 8 * found.largest)


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


def test_the_list_says_what_a_case_costs():
    known, unknown = case("resnet18"), case("no_such_model")
    text = listing.render([known, unknown], {known.id: 12.5})
    row, other = (next(x for x in text.splitlines() if c.id in x) for c in (known, unknown))
    assert [cell.strip() for cell in row.split("|")[3:8]] == [
        "11.7 M", "3x224x224", "10.9", f"{sizes.memory(known) / 1e6:.3g} MB", "12.5",
    ]  # fmt: skip
    assert [cell.strip() for cell in other.split("|")[3:8]] == ["?", "?", "?", "?", "not run yet"]
    assert "2 cases, 10.9 GMAC a pass and 1 of unknown size; 1 of them took 12 s before" in text


def test_listing_loads_neither_torch_nor_timm():
    script = (
        "import sys; from harness.entry.commands.main import main\n"
        "code = main(['run', '--list', '--model', 'vit_t*', '--max-params', '6M', '--shard', '1/2',"
        " '-p', 'no:cacheprovider'])\n"
        "print(code, sorted({'torch', 'timm', 'torchvision'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 []"
    assert "vit_tiny_patch16_" in done.stdout
    assert "--max-params 6 M leaves out" in done.stdout
    assert "vit_tiny_r_s16" not in done.stdout


def test_shards_are_balanced_by_size_where_no_duration_is_known(monkeypatch):
    cases = [case("resnet18"), case("test_resnet"), case("no_such_model")]
    monkeypatch.setattr(architectures, "measure", lambda name: pytest.fail(f"measured {name}"))
    found = sizes.weights(cases)
    assert set(found) == {cases[0].id, cases[1].id}
    assert found[cases[0].id] > found[cases[1].id]
