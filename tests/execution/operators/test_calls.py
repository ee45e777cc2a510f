from __future__ import annotations

import pytest
import torch
from torch import nn

from harness.execution.operators import calls


@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 1, 1), (2, 0, 1), (2, 3, 2)])
def test_the_oracle_of_depthwise_convolutions(multiplier, stride, padding, dilation):
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 6, 13, 12, generator=generator, dtype=torch.float64)
    weight = torch.randn(6 * multiplier, 1, 3, 5, generator=generator, dtype=torch.float64)
    bias = torch.randn(6 * multiplier, generator=generator, dtype=torch.float64)
    sizes = [[stride, stride], [padding, padding + 1], [dilation, dilation]]
    expected = nn.functional.conv2d(image, weight, bias, *sizes, groups=6)
    got = calls.depthwise(image, weight, bias, *sizes, False, [0, 0], 6)
    assert torch.allclose(got, expected, rtol=1e-13, atol=1e-13)
