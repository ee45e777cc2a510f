"""Five modules that CANN refuses, and one of which nothing is known."""

import torch
from torch import nn


class Float64(nn.Module):
    """A convolution in float64."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3).double()
        self.example_inputs = torch.zeros(1, 3, 8, 8).double()

    def forward(self, x):
        return self.conv(x)


class Rank9(nn.Module):
    """Nine dimensions."""

    example_inputs = torch.zeros([2] * 9)

    def forward(self, x):
        return x.exp()


class Int16Relu(nn.Module):
    """Relu of int16."""

    example_inputs = torch.zeros(2, 3, dtype=torch.int16)

    def forward(self, x):
        return torch.relu(x)


class BoolMean(nn.Module):
    """The mean of booleans."""

    example_inputs = torch.zeros(2, 3)

    def forward(self, x):
        return torch.mean(x > 0, 1, dtype=torch.float32)


class Head1024(nn.Module):
    """Attention with heads of 1024, by torch_npu's own operator."""

    example_inputs = torch.zeros(1, 2, 4, 1024)

    def forward(self, x):
        return torch.ops.npu.npu_fusion_attention(x, x, x, 2, "BNSD")[0]


class Determinant(nn.Module):
    """An operator that is in no table."""

    example_inputs = torch.zeros(3, 3)

    def forward(self, x):
        return torch.linalg.det(x)


class Plain(nn.Module):
    """Accepted."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
        self.example_inputs = (torch.zeros(2, 3),)

    def forward(self, x):
        return self.inner(x)


def pair():
    """A module and its input."""
    return nn.Linear(3, 4), torch.zeros(2, 3)


def number():
    """No module."""
    return 3


def broken():
    """Raises."""
    raise ValueError("no\nway")


# Class -> operator, argument and part of the rule.
REFUSED = {
    "Float64": ("Convolution", "input", "float64 is none of float32, float16, bfloat16"),
    "Rank9": ("Exp", "self", "9 dimensions are not in 0..8"),
    "Int16Relu": ("Relu", "self", "int16 is none of"),
    "BoolMean": ("Mean", "self", "bool is none of"),
    "Head1024": ("FlashAttentionScore", "head_size", "the value 1024 is not in 1..768"),
}
