"""Every row of the dispatch table is what the real torch_npu calls on the emulated NPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.devices.emulator import Emulator
from harness.execution.operators import dispatch
from harness.execution.operators.calls import Call
from harness.qualification import dispatch_table
from harness.qualification.dispatch_table import Row


def x(*sizes: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.full(sizes, 0.5).to(dtype).npu()


def samples() -> dict[str, tuple[Any, ...]]:
    """Arguments for operators that do not take one or two tensors [2, 4, 6, 6]."""
    image, matrix, batch, row = x(2, 4, 6, 6), x(4, 4), x(2, 4, 4), x(4)
    index = torch.tensor([0, 1]).npu()
    true = torch.ones(2, 4, 6, 6, dtype=torch.bool).npu()
    whole = torch.ones(2, 3, dtype=torch.int32).npu()
    norm = (row, row, row, row)
    ones: dict[str, tuple[Any, ...]] = {
        "convolution.default": (
            image,
            x(8, 4, 3, 3),
            x(8),
            [1, 1],
            [1, 1],
            [1, 1],
            False,
            [0, 0],
            1,
        ),
        "baddbmm.default": (batch, batch, batch),
        "addmm.default": (row, matrix, matrix),
        "addmv.default": (row, matrix, row),
        "mv.default": (matrix, row),
        "native_layer_norm.default": (matrix, [4], row, row, 1e-5),
        "native_batch_norm.default": (image, *norm, False, 0.1, 1e-5),
        "_native_batch_norm_legit_no_training.default": (image, *norm, 0.1, 1e-5),
        "native_group_norm.default": (image, row, row, 2, 4, 36, 2, 1e-5),
        "avg_pool2d.default": (image, [2, 2]),
        "_adaptive_avg_pool2d.default": (image, [2, 2]),
        "adaptive_max_pool2d.default": (image, [2, 2]),
        "max_pool2d_with_indices.default": (image, [2, 2]),
        "grid_sampler_2d.default": (image, x(2, 3, 3, 2), 0, 0, False),
        "upsample_nearest2d.default": (image, [9, 9]),
        "clamp.default": (image, 0.1, 0.5),
        "clamp_.default": (image.clone(), 0.1, 0.5),
        "clamp.Tensor": (image, image, image),
        "threshold.default": (image, 0.1, 0.1),
        "hardtanh.default": (image,),
        "hardtanh_.default": (image.clone(),),
        "_prelu_kernel.default": (image, x(1, 4, 1, 1)),
        "pow.Scalar": (2.5, matrix),
        "where.self": (true, image, image),
        "channel_shuffle.default": (image, 2),
        "constant_pad_nd.default": (image, [1, 1]),
        "im2col.default": (image, [2, 2], [1, 1], [0, 0], [1, 1]),
        "repeat.default": (matrix, [2, 2]),
        "roll.default": (matrix, [1], [0]),
        "flip.default": (matrix, [0]),
        "fill_.Tensor": (matrix.clone(), x()),
        "index.Tensor": (matrix, [index]),
        "_unsafe_index.Tensor": (matrix, [index]),
        "index_put_.default": (matrix.clone(), [index], x(2, 4)),
        "index_select.default": (matrix, 0, index),
        "index_add.default": (matrix, 0, index, x(2, 4)),
        "gather.default": (matrix, 0, index[None]),
        "embedding.default": (matrix, index),
        "one_hot.default": (index, 4),
        "repeat_interleave.self_int": (matrix, 2, 0),
        "masked_select.default": (image, true),
        "bernoulli_.float": (matrix.clone(), 0.5),
        "topk.default": (matrix, 2),
        "argsort.stable": (matrix,),
        "arange.default": (5,),
        "arange.start": (1, 5),
        "arange.start_step": (1, 5, 2),
        "linspace.default": (0.0, 1.0, 5),
        "eye.default": (3,),
        "eye.m": (3, 4),
        "zeros.default": ([2],),
        "ones.default": ([2],),
        "full.default": ([2], 1.0),
        "scalar_tensor.default": (1.0,),
        "full_like.default": (matrix, 1.0),
        "new_zeros.default": (matrix, [2]),
        "new_ones.default": (matrix, [2]),
        "new_full.default": (matrix, [2], 1.0),
    }
    for name in ("upsample_bilinear2d", "_upsample_bilinear2d_aa", "upsample_bicubic2d"):
        ones[f"{name}.default"] = (image, [9, 9], False)
    ones["_upsample_bicubic2d_aa.default"] = (image, [9, 9], False)
    for name in ("reflection_pad2d", "replication_pad2d"):
        ones[f"{name}.default"] = (image, [1, 1, 1, 1])
    for name in ("cat", "stack"):
        ones[f"{name}.default"] = ([image, image], 1)
    for name in ("mm", "matmul", "dot", "bmm"):
        one = {"dot": row, "bmm": batch}.get(name, matrix)
        ones[f"{name}.default"] = (one, one)
    for name in ("_softmax", "_log_softmax"):
        ones[f"{name}.default"] = (matrix, 1, False)
    for name in ("softmax.int", "_safe_softmax.default", "cumsum.default", "max.dim", "min.dim"):
        ones[name] = (matrix, 1)
    ones["prod.dim_int"] = (matrix, 1)
    for name in ("mean.dim", "sum.dim_IntList", "amax.default", "amin.default"):
        ones[name] = (matrix, [1])
    for name in ("var_mean.correction", "std_mean.correction"):
        ones[name] = (matrix, [1])
    for name in ("linalg_vector_norm.default", "norm.ScalarOpt_dim"):
        ones[name] = (matrix, 2.0, [1])
    for name in ("any", "all"):
        ones |= {f"{name}.default": (true,), f"{name}.dim": (true, 1)}
    for name in ("bitwise_and.Tensor", "bitwise_or.Tensor", "bitwise_xor.Tensor"):
        ones[name] = (whole, whole)
    ones["bitwise_not.default"] = (whole,)
    for name in ("masked_fill.Scalar", "masked_fill_.Scalar"):
        ones[name] = (image.clone(), true, 1.0)
    for name in ("masked_fill.Tensor", "masked_fill_.Tensor"):
        ones[name] = (image.clone(), true, x())
    return ones


# Keyword arguments; those that make a tensor of nothing need a device.
KEYWORDS: dict[str, dict[str, Any]] = {
    "div.Tensor_mode": {"rounding_mode": "floor"},
    "sort.stable": {"stable": True},
    "argsort.stable": {"stable": True},
    "_to_copy.default": {"dtype": torch.float16},
}
MAKERS = "arange linspace eye zeros ones full scalar_tensor".split()
ROWS = [row for rows in dispatch_table.table().values() for row in rows if row.operator]
# Behind the first operator, which the row names, torch_npu calls some that only move or fill.
WITH_HELPERS = {
    "_safe_softmax.default": {"IsNegInf", "All", "InplaceFillScalar", "SWhere"},
    "index_add.default": {"InplaceCopy"},
    "one_hot.default": {"InplaceFillScalar"},
    "masked_fill.Scalar": {"InplaceCopy"},
    "masked_fill.Tensor": {"InplaceCopy"},
}


def plain(func: Any, row: Row) -> tuple[Any, ...]:
    """A tensor for a tensor, 2.0 for a number."""
    found: list[Any] = []
    for argument in func._schema.arguments:
        if argument.has_default_value() or argument.kwarg_only:
            break
        number = row.when == f"number {argument.name}" or str(argument.type) != "Tensor"
        found.append(2.0 if number else x(2, 4, 6, 6))
    return tuple(found)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.aten} {row.when}".strip())
def test_row(npu: Emulator, row: Row) -> None:
    namespace, _, name = row.aten.partition("::")
    if namespace == "npu":
        pytest.skip("tests/emulator/test_contract.py calls it")
    packet, _, overload = name.partition(".")
    func = getattr(getattr(torch.ops.aten, packet), overload)
    arguments = samples().get(name) or plain(func, row)
    made = {"device": torch.device("npu")} if packet in MAKERS else {}
    keywords = KEYWORDS.get(name, made)
    npu.reset_counters()
    value = func(*arguments, **keywords)
    called = npu.operator_counts()
    assert set(called) - WITH_HELPERS.get(name, set()) == {row.operator}
    call = dispatch_table.device_call(Call(func, arguments, keywords), value)
    assert call is not None and call.operator == row.operator
    assert all(call.arguments[argument] for argument in row.arguments), "an argument is empty"


def test_every_composite_that_torch_npu_takes_whole_is_in_the_table(npu: Emulator) -> None:
    of_device = {func.name() for func in dispatch._whole("PrivateUse1")}
    own = {func.name() for func in dispatch_table.whole()}
    left = {"aten::adaptive_avg_pool2d"}  # taken apart in the same way
    assert of_device - own == left


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    "sizes", [(1, 2, 4, 64), (1, 2, 4, 512), (1, 2, 4, 516), (1, 2, 4, 6), (2, 4, 64)]
)
@pytest.mark.parametrize("mask", [None, torch.bool, torch.float32])
def test_which_attention_is_taken_whole(
    npu: Emulator, dtype: torch.dtype, sizes: tuple[int, ...], mask: torch.dtype | None
) -> None:
    q = x(*sizes, dtype=dtype)
    bias = None if mask is None else torch.ones(4, 4).to(dtype if mask.is_floating_point else mask)
    bias = None if bias is None else bias.npu()
    npu.reset_counters()
    torch.nn.functional.scaled_dot_product_attention(q, q, q, bias)
    fused = "FlashAttentionScore" in npu.operator_counts()
    call = Call(torch.ops.aten.scaled_dot_product_attention.default, (q, q, q, bias), {})
    assert dispatch_table.is_fused(call) == fused
