import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from harness.cases import architectures
from harness.system import environment
from harness.system.torchvision_shim import import_timm


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
