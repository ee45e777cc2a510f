"""CANN's published methods: what computes so is said to, what is wrong besides is not.

The device's results are made by the methods written anew here, in float32 and the format itself.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.devices.cpu import CpuDevice
from harness.devices.spec import DeviceSpec
from harness.execution.operators.calls import Call
from harness.execution.operators.comparison import OperatorComparison
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.operator_rows import OperatorRow, culprits

aten = torch.ops.aten
HALVES = ["float16", "bfloat16"]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def judged(func: Any, arguments: tuple[Any, ...], got: Tensor, dtype: str = "float32",
           kind: str = "npu") -> OperatorRow:  # fmt: skip
    """The row of a call that a device of a kind answered with `got`."""
    device = CpuDevice()
    device.spec = DeviceSpec(kind)
    comparison = OperatorComparison(nn.Module(), device, Arithmetic(dtype))
    call = Call(func, arguments, {})
    return comparison.judge(call, comparison.describe(call, 0, ""), [[got]])


def verdict(row: OperatorRow) -> bool | None:
    """Whether a culprit is computed as CANN computes it; None where nothing is said."""
    assert culprits([row])
    return None if row.method is None else row.method.agrees


def one_pass(x: Tensor, groups: int, weight: Tensor, bias: Tensor) -> Tensor:
    """GroupNorm with the mean square less the square of the mean, all in float32."""
    split = x.reshape(len(x), groups, -1)
    mean = split.mean(-1, keepdim=True)
    rstd = 1 / torch.sqrt((split * split).mean(-1, keepdim=True) - mean * mean + 1e-5)
    each = x.shape[1] // groups
    factor = rstd.expand(-1, -1, each).reshape(len(x), -1) * weight
    summand = bias - factor * mean.expand(-1, -1, each).reshape(len(x), -1)
    return x * factor[..., None, None] + summand[..., None, None]


def group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor) -> tuple[Any, tuple[Any, ...]]:
    n, c, h, w = x.shape
    return aten.native_group_norm.default, (x, weight, bias, n, c, h * w, groups, 1e-5)


OFF_CENTRE = draw(4, 64, 7, 7) + 100
WEIGHT, BIAS = draw(64, seed=1).abs() + 0.5, draw(64, seed=2)


def test_group_norm_off_centre_is_a_culprit_and_as_cann_computes_it():
    got = one_pass(OFF_CENTRE, 32, WEIGHT, BIAS)
    row = judged(*group_norm(OFF_CENTRE, 32, WEIGHT, BIAS), got)
    assert verdict(row) is True
    assert row.ratio > 3 > 1 > row.method.ratio
    assert "As CANN computes it (variance in one pass" in str(row.method)
    assert "norm/group_norm_silu" in str(row.method)


def test_the_sums_of_a_group_may_be_added_in_any_order():
    order = torch.randperm(49, generator=torch.Generator().manual_seed(3))
    shuffled = OFF_CENTRE.flatten(2)[:, :, order].reshape(OFF_CENTRE.shape)
    got = one_pass(shuffled, 32, WEIGHT, BIAS).flatten(2)[:, :, order.argsort()]
    got = got.reshape(OFF_CENTRE.shape)
    assert not torch.equal(got, one_pass(OFF_CENTRE, 32, WEIGHT, BIAS)), "another order, other bits"
    assert verdict(judged(*group_norm(OFF_CENTRE, 32, WEIGHT, BIAS), got)) is True


FAULTS = {
    "a dead channel": lambda y: y.index_fill(1, torch.tensor([5]), 0.0),
    "another group's channel": lambda y: y[:, [0, 1, 4, 3, 2, *range(5, 64)]],
    "a group scaled by a tenth": lambda y: torch.cat([y[:, :2] * 1.1, y[:, 2:]], 1),
    "one item for another": lambda y: y[[1, 0, 2, 3]],
    "NaN in a group": lambda y: torch.cat([y[:, :2] * math.nan, y[:, 2:]], 1),
    "noise": lambda y: y + 0.01 * draw(*y.shape, seed=4),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_beside_the_one_pass_is_not_as_cann_computes_it(fault):
    got = FAULTS[fault](one_pass(OFF_CENTRE, 32, WEIGHT, BIAS))
    row = judged(*group_norm(OFF_CENTRE, 32, WEIGHT, BIAS), got)
    assert verdict(row) is False
    assert str(row.method).startswith("Not as CANN computes it")


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_nothing_is_said_of_other_makers_devices(kind):
    got = one_pass(OFF_CENTRE, 32, WEIGHT, BIAS)
    assert verdict(judged(*group_norm(OFF_CENTRE, 32, WEIGHT, BIAS), got, kind=kind)) is None


def test_a_group_of_one_number_may_be_nan_as_a_whole_and_not_in_part():
    x = torch.linspace(0.5, 300, 64).reshape(8, 8, 1, 1).repeat(1, 1, 14, 14)
    one, zero = torch.ones(8), torch.zeros(8)
    got = torch.zeros_like(x)
    got[2, 3] = math.nan
    assert verdict(judged(*group_norm(x, 8, one, zero), got)) is True
    got[2, 3, 0] = 0
    assert verdict(judged(*group_norm(x, 8, one, zero), got)) is False


def rounded_statistics(x: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Tensor:
    """LayerNorm of numbers of a format with mean and 1 / deviation rounded to it."""
    x, weight, bias = (value.to(dtype).float() for value in (x, weight, bias))
    mean = x.mean(-1, keepdim=True).to(dtype).float()
    variance = (x - mean).square().mean(-1, keepdim=True)
    rstd = (1 / torch.sqrt(variance + 1e-5)).to(dtype).float()
    return ((x - mean) * rstd * weight + bias).to(dtype)


@pytest.mark.parametrize("dtype", HALVES)
def test_layer_norm_with_half_statistics(dtype):
    x, weight, bias = draw(400, 768) + 10, draw(768, seed=1).abs() + 0.5, draw(768, seed=2)
    call = aten.native_layer_norm.default, (x, [768], weight, bias, 1e-5)
    got = rounded_statistics(x, weight, bias, getattr(torch, dtype))
    assert verdict(judged(*call, got, dtype)) is True
    got[7] = got[8]
    assert verdict(judged(*call, got, dtype)) is False


def test_layer_norm_of_1024_in_bfloat16_is_another_kernels():
    x, one, zero = draw(40, 1024) + 10, torch.ones(1024), torch.zeros(1024)
    got = rounded_statistics(x, one, zero, torch.bfloat16)
    call = aten.native_layer_norm.default, (x, [1024], one, zero, 1e-5)
    assert verdict(judged(*call, got, "bfloat16")) is None


@pytest.mark.parametrize("dtype", ["float32", *HALVES])
def test_gelu_in_the_tanh_form(dtype):
    x = draw(50, 60)
    narrow = x.to(getattr(torch, dtype))
    tanh = nn.functional.gelu(narrow.double(), approximate="tanh").to(narrow.dtype)
    assert verdict(judged(aten.gelu.default, (x,), tanh, dtype)) is True
    quick = (narrow.double() * torch.sigmoid(1.702 * narrow.double())).to(narrow.dtype)
    assert verdict(judged(aten.gelu.default, (x,), quick, dtype)) is False


@pytest.mark.parametrize(("padded", "what"), [(True, "a rounded factor"), (False, "a stored sum")])
def test_average_pool_by(padded, what):
    """No trait of it is beyond what a format costs: a fault is never put down to it."""
    x = draw(2, 3, 20, 20).half()
    total = nn.functional.avg_pool2d(x.float(), 3, 1, 1, divisor_override=1)
    counts = nn.functional.avg_pool2d(torch.ones(20, 20)[None], 3, 1, 1, divisor_override=1)
    factor = float(torch.tensor(1 / 9).half())
    got = (total * factor).half() if padded else (total.half().float() / counts).half()
    call = aten.avg_pool2d.default, (x.float(), [3, 3], [1, 1], [1, 1], False, padded, None)
    assert not culprits([judged(*call, got, "float16")])
    got[0, 1] *= 1.01
    assert verdict(judged(*call, got, "float16")) is False


@pytest.mark.parametrize("dtype", HALVES)
def test_attention_with_rounded_powers(dtype):
    # Values that cancel leave of the result what rounding the powers costs.
    store = getattr(torch, dtype)
    query = (draw(2, 3, 64, 16) / 100).to(store)
    signs = torch.cat([torch.ones(32, 16), -torch.ones(32, 16)])
    value = signs.expand(2, 3, 64, 16).contiguous()
    scores = query.float() @ query.float().transpose(-1, -2) / 4
    powers = (scores - scores.amax(-1, keepdim=True)).exp()
    got = (powers.to(store).float() @ value / powers.sum(-1, keepdim=True)).to(store)
    call = aten.scaled_dot_product_attention.default, (query.float(), query.float(), value)
    assert verdict(judged(*call, got, dtype)) is True
    powers[..., -1] = 0  # the last key is left out
    got = (powers.to(store).float() @ value / powers.sum(-1, keepdim=True)).to(store)
    assert verdict(judged(*call, got, dtype)) is False


def test_max_pool_that_passes_over_nan():
    x = draw(2, 3, 8, 8)
    x[0, 0, 1, 1] = math.nan
    over = nn.functional.max_pool2d(x.nan_to_num(nan=-math.inf), 2)
    arguments = (x, [2, 2], [2, 2], [0, 0], [1, 1], False)
    device = CpuDevice()
    device.spec = DeviceSpec("npu")
    comparison = OperatorComparison(nn.Module(), device, Arithmetic())
    call = Call(aten.max_pool2d_with_indices.default, arguments, {})
    row = comparison.describe(call, 0, "")
    for got, agrees in (
        (over, True),
        (nn.functional.max_pool2d(x, 2), True),
        (torch.where(over == over[0, 0, 0, 0], 9.0, over), False),
    ):
        method = comparison.by_method(call, row, [got])
        assert method is not None and method.agrees is agrees


@pytest.mark.parametrize("dtype", HALVES)
def test_a_product_that_is_stored_before_a_matrix_is_added_is_no_culprit(dtype):
    matrix, left, right = draw(64, 64), draw(64, 64, seed=1), draw(64, 64, seed=2)
    narrow = [value.to(getattr(torch, dtype)) for value in (matrix, left, right)]
    product = (narrow[1].float() @ narrow[2].float()).to(narrow[0].dtype)
    got = (product.float() + narrow[0].float()).to(narrow[0].dtype)
    assert not culprits([judged(aten.addmm.default, (matrix, left, right), got, dtype)])
    row = matrix[0]
    added = (narrow[1].float() @ narrow[2].float()).to(narrow[0].dtype) + narrow[0][0]
    assert culprits([judged(aten.addmm.default, (row, left, right), added, dtype)])
