"""The float64 oracle, operator by operator from float32 weights: the bits of the whole model."""

import copy

import pytest
import torch
from torch import nn

from harness.execution import widening
from harness.execution.cpu_variants import CpuVariant, VariantCpu
from harness.system import process
from harness.system.torchvision_shim import import_timm

# Convolutions, windows, attention of three kinds, norms, gated and tied weights.
FAMILIES = [
    "test_vit", "test_vit3", "test_resnet", "test_efficientnet", "test_efficientnet_gn",
    "test_convnext", "test_maxvit", "test_coatnet", "test_nfnet", "test_mambaout",
    "test_vit_relpos", "levit_128s",
]  # fmt: skip


def both(model, *inputs):
    """A model's outputs, whole in float64 and by operator."""
    whole = copy.deepcopy(model).to(torch.float64)
    widened = widening.by_operator(model)
    with torch.no_grad():
        return whole(*inputs), widened(*inputs)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_bit_is_that_of_the_whole_float64_model(name):
    timm = import_timm()
    torch.manual_seed(0)
    model = timm.create_model(name).eval().requires_grad_(False)
    size = model.pretrained_cfg["input_size"]
    whole, widened = both(model, torch.randn(2, *size, dtype=torch.float64))
    assert whole.dtype == widened.dtype == torch.float64
    assert torch.equal(whole, widened)
    assert not torch.equal(widened, widened.float().double())


class Odd(nn.Module):
    """Weights read by their dtype, used outside of their module, tied, and written to."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.register_buffer("mean", torch.zeros(8))
        self.calls = nn.Parameter(torch.full((8,), 0.1))

    def forward(self, x):
        x = x.to(self.first.weight.dtype)
        x = self.attention(x, x, x)[0]
        self.mean.add_(x.mean((0, 1)))
        self.calls.add_(self.mean)
        x = nn.functional.linear(x, torch.cat([self.first.weight[:4], self.second.weight[4:]]))
        return self.second(self.first(x)) + self.mean * self.calls


def test_odd_uses_of_weights_give_the_same_bits():
    torch.manual_seed(0)
    model = Odd().eval().requires_grad_(False)
    held = model.calls.clone()
    whole, widened = both(model, torch.randn(2, 5, 8, dtype=torch.float64))
    assert torch.equal(whole, widened)
    assert model.first.weight is model.second.weight
    assert not torch.equal(model.calls.double(), held.double())


def test_the_weights_are_never_all_wide():
    """Sixteen layers of 16 MB: a whole float64 model would take 512 MB more than it."""
    model = nn.Sequential(*(nn.Linear(2048, 2048, bias=False) for _ in range(16)))
    placed = VariantCpu(CpuVariant()).place(model.requires_grad_(False), torch.float64)
    images = torch.ones(1, 2048, dtype=torch.float64)
    process.release()
    assert process.reset_peak()
    before = process.host_peak()
    with torch.no_grad():
        assert placed(images).dtype == torch.float64
    assert process.host_peak() - before < 5 * 2048 * 2048 * 8
