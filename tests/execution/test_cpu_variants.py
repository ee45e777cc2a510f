"""The CPU in variants: other layouts and orders of sums."""

import torch
from torch import nn

from harness.execution.cpu_variants import CpuVariant, VariantCpu


class Stacked(nn.Module):
    """A convolution's weight of five dimensions beside an ordinary one."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Conv2d(3, 4, 3)
        self.deep = nn.Conv3d(1, 1, (1, 3, 3))


def test_a_model_with_weights_of_five_dimensions_can_be_reordered():
    placed = VariantCpu(CpuVariant(reorder=True)).place(Stacked(), torch.float32)
    assert placed.plain.weight.is_contiguous(memory_format=torch.channels_last)
    assert placed.deep.weight.is_contiguous()
