import pytest
import torch

from harness.devices.fault_plan import Fault, FaultPlan
from harness.execution.fault_hooks import FaultHooks, operator_name


def hooked(module, data, *faults):
    mode = FaultHooks(FaultPlan(faults).to_json())
    with torch.no_grad(), mode:
        result = module(data)
    return result, mode.counters


@pytest.fixture
def net():
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(inplace=True),
        torch.nn.Conv2d(8, 4, 1, bias=False), torch.nn.Flatten(), torch.nn.Linear(4 * 36, 5),
    )  # fmt: skip
    return layers.eval()


def test_hooks_count_operators_by_cann_names(net):
    _, counters = hooked(net, torch.rand(2, 3, 8, 8))
    assert counters.operators == {
        "Convolution": 2, "BatchNorm": 1, "InplaceRelu": 1, "Addmm": 1,
    }  # fmt: skip
    assert operator_name(torch.ops.aten.hardtanh_.default) == "InplaceHardtanh"


@pytest.mark.parametrize(
    "fault",
    [
        Fault("scale_weight", "Convolution", first=2, magnitude=0.5),
        Fault("scale_weight", "Addmm", magnitude=2.0, index=7),
        Fault("swap_channels", "Convolution"),
        Fault("drop_bias", "Addmm"),
        Fault("drop_bias", "Convolution"),
        Fault("stale_mean", "BatchNorm"),
        Fault("scale_output", "InplaceRelu"),
        Fault("noise_output", "Convolution"),
        Fault("zero_channels", "BatchNorm", magnitude=1),
        Fault("nan_output", "Addmm", index=3),
        Fault("permute_batch", "Addmm"),
        Fault("duplicate_first_item", "Convolution"),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.operator}",
)
def test_hooks_change_the_result_and_say_so(net, fault):
    data = torch.rand(3, 3, 8, 8)
    clean, _ = hooked(net, data)
    faulty, counters = hooked(net, data, fault)
    assert counters.fault_effects[0] >= 1
    assert not torch.equal(clean, faulty)
    again, _ = hooked(net, data)
    assert torch.equal(clean, again)  # the model itself stays as it was


def test_hooks_say_when_a_fault_never_acted(net):
    data = torch.rand(2, 3, 8, 8)
    clean, _ = hooked(net, data)
    for fault in (
        Fault("scale_output", "Convolution", first=9),
        Fault("scale_weight", "Convolution", batch_over=4),
        Fault("saturate", "*"),
        Fault("bit_flip", "Convolution"),
    ):
        faulty, counters = hooked(net, data, fault)
        assert counters.fault_effects == (0,)
        assert torch.equal(clean, faulty)


def test_the_last_item_gets_the_first_ones_result(net):
    data = torch.rand(3, 3, 8, 8)
    clean, _ = hooked(net, data)
    faulty, _ = hooked(net, data, Fault("duplicate_first_item", "Addmm"))
    assert torch.equal(faulty[:2], clean[:2])
    assert torch.equal(faulty[2], clean[0])
