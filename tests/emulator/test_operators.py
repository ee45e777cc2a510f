"""Every operator of the emulator's table by itself, against ATen.

Each is called as torch_npu calls it: in all dtypes that the CPU takes, of ranks 0 to 4, strided,
and with the broadcast forms of its arguments.  `aten` is held to the CPU's own results,
the profile `cann` to the same within what its methods cost (test_cann.py has those).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.devices.emulator import Emulator

Function = Callable[..., Any]

DTYPES = (
    *(torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)
# Ranks 0 to 4, and a view with other strides.
ONE: tuple[tuple[Any, ...], ...] = (
    (),
    (7,),
    (3, 4),
    (2, 3, 5),
    (2, 3, 4, 5),
    (2, 3, 4, 5, "turned"),
)
# Shapes that meet: alike, a row, a number, both ways, one strided.
TWO: tuple[tuple[tuple[Any, ...], ...], ...] = (
    ((3, 4), (3, 4)),
    ((2, 3, 4), (4,)),
    ((2, 3, 4, 5), (3, 1, 1)),
    ((3, 4), ()),
    ((2, 1, 4), (3, 1)),
    ((2, 3, 4, 5, "turned"), (2, 3, 4, 5)),
)

UNARY = """relu sigmoid tanh exp exp2 expm1 log log2 log10 log1p sqrt rsqrt reciprocal sin cos tan
    atan erf floor ceil trunc round neg logical_not""".split()
ONLY_NEW = "abs sign square bitwise_not isfinite isinf isposinf isneginf".split()
PAIRS = {"mul": "Mul", "div": "Div", "floor_divide": "FloorDivide", "add": "Add", "sub": "Sub"}
COMPARED = "eq ne lt le gt ge bitwise_and bitwise_or bitwise_xor fmod".split()


def camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def aclnn(name: str) -> str:
    """The operator of a function of torch: those of is... have a capital after it."""
    return (
        "Is" + {"finite": "Finite", "inf": "Inf", "posinf": "PosInf", "neginf": "NegInf"}[name[2:]]
        if name.startswith("is")
        else camel(name)
    )


def in_place(name: str, *given: Any) -> Function:
    def call(x: Tensor, *others: Tensor) -> Tensor:
        y = x.clone()
        getattr(y, name + "_")(*others, *given)
        return y

    return call


def of(name: str, *given: Any, **named: Any) -> Function:
    return lambda *tensors: getattr(torch, name)(*tensors, *given, **named)


# Operator -> function of one tensor.
SINGLE: dict[str, Function] = {
    **{aclnn(name): of(name) for name in (*UNARY, *ONLY_NEW)},
    **{"Inplace" + aclnn(name): in_place(name) for name in UNARY},
    "Hardswish": F.hardswish,
    "InplaceHardswish": lambda x: F.hardswish(x.clone(), inplace=True),
    "Hardsigmoid": F.hardsigmoid,
    "InplaceHardsigmoid": lambda x: F.hardsigmoid(x.clone(), inplace=True),
    "Selu": F.selu,
    "InplaceSelu": lambda x: F.selu(x.clone(), inplace=True),
    "Silu": F.silu,
    "Mish": F.mish,
    "InplaceMish": lambda x: F.mish(x.clone(), inplace=True),
    "Gelu": lambda x: F.gelu(x, approximate="tanh"),
    "LogSigmoidForward": F.logsigmoid,
    "LeakyRelu": lambda x: F.leaky_relu(x, 0.2),
    "InplaceLeakyRelu": lambda x: F.leaky_relu(x.clone(), 0.2, inplace=True),
    "Elu": lambda x: F.elu(x, 1.3),
    "InplaceElu": lambda x: F.elu(x.clone(), 1.3, inplace=True),
    "Celu": lambda x: F.celu(x, 1.3),
    "CeluV2": lambda x: F.celu(x.clone(), 1.3, inplace=True),
    "Softplus": lambda x: F.softplus(x, 1.5, 2.0),
    "Softshrink": lambda x: F.softshrink(x, 0.3),
    "Hardshrink": lambda x: F.hardshrink(x, 0.3),
    "Hardtanh": lambda x: F.hardtanh(x, -1, 2),
    "InplaceHardtanh": lambda x: F.hardtanh(x.clone(), -1, 2, inplace=True),
    "Threshold": lambda x: F.threshold(x, 1, 3),
    "InplaceThreshold": lambda x: F.threshold(x.clone(), 1, 3, inplace=True),
    "Clamp": lambda x: x.clamp(-1, 2),
    "InplaceClamp": in_place("clamp", -1, 2),
    "ClampMin": lambda x: x.clamp_min(1),
    "InplaceClampMin": in_place("clamp_min", 1),
    "ClampMax": lambda x: x.clamp_max(1),
    "InplaceClampMax": in_place("clamp_max", 1),
    "NanToNum": lambda x: x.nan_to_num(1.0, 2.0, 3.0),
    **{name + "s": of(function, 3) for function, name in PAIRS.items()},
    **{"Inplace" + name + "s": in_place(function, 3) for function, name in PAIRS.items()},
    **{camel(name) + "Scalar": of(name, 1) for name in COMPARED},
    **{"Inplace" + camel(name) + "Scalar": in_place(name, 1) for name in COMPARED},
    "Rsubs": lambda x: torch.rsub(x, 3, alpha=2),
    "PowTensorScalar": lambda x: x**2,
    "InplacePowTensorScalar": in_place("pow", 2),
    "PowScalarTensor": lambda x: 2**x,
    "RemainderTensorScalar": lambda x: x.remainder(3),
    "InplaceRemainderTensorScalar": in_place("remainder", 3),
    "DivMods": lambda x: torch.div(x, 3, rounding_mode="floor"),
    "InplaceDivMods": lambda x: x.clone().div_(3, rounding_mode="trunc"),
    # movement
    "InplaceCopy": lambda x: torch.empty_like(x).copy_(x),
    "Cast": lambda x: x.to(torch.float32).to(torch.float16),
    "InplaceZero": lambda x: x.clone().zero_(),
    "InplaceFillScalar": lambda x: x.clone().fill_(2),
    "Flip": lambda x: x.flip(0),
    "Repeat": lambda x: x.repeat(2, *[1] * x.dim()),
    "InplaceMaskedFillScalar": lambda x: x.clone().masked_fill_(x > 1, 2),
    "MaskedSelect": lambda x: x.masked_select(x > 0),
    "Nonzero": lambda x: x.nonzero(),
    # reductions
    "ReduceSum": lambda x: x.sum(0),
    "Mean": lambda x: x.mean(0),
    "Prod": lambda x: x.prod(),
    "ProdDim": lambda x: x.prod(0),
    "Max": lambda x: x.max(),
    "Min": lambda x: x.min(),
    "Amax": lambda x: x.amax(0),
    "Amin": lambda x: x.amin(0),
    "Any": lambda x: x.any(0),
    "All": lambda x: x.all(0),
    "ArgMax": lambda x: x.argmax(0),
    "ArgMin": lambda x: x.argmin(0),
    "MaxDim": lambda x: x.max(0),
    "MinDim": lambda x: x.min(0),
    "Sort": lambda x: x.sort(dim=0, stable=True),
    "Argsort": lambda x: x.argsort(0),
    "Cumsum": lambda x: x.cumsum(0),
    "Softmax": lambda x: x.softmax(-1),
    "LogSoftmax": lambda x: x.log_softmax(-1),
    "LinalgVectorNorm": lambda x: torch.linalg.vector_norm(x),
}

# Operator -> function of two tensors that are broadcast.
DOUBLE: dict[str, Function] = {
    **{name: of(function) for function, name in PAIRS.items()},
    **{"Inplace" + name: in_place(function) for function, name in PAIRS.items()},
    **{camel(name) + "Tensor": of(name) for name in COMPARED},
    **{"Inplace" + camel(name) + "Tensor": in_place(name) for name in COMPARED},
    "Rsub": lambda x, y: torch.rsub(x, y, alpha=2),
    **{
        camel(name): of(name)
        for name in "logical_and logical_or logical_xor maximum minimum atan2".split()
    },
    "LogAddExp": torch.logaddexp,
    "InplaceLogicalAnd": in_place("logical_and"),
    "InplaceLogicalOr": in_place("logical_or"),
    "RemainderTensorTensor": torch.remainder,
    "PowTensorTensor": lambda x, y: (x.abs() + 1) ** y,
    "InplacePowTensorTensor": lambda x, y: (x.abs() + 1).pow_(y),
    "DivMod": lambda x, y: torch.div(x, y, rounding_mode="floor"),
    "InplaceDivMod": lambda x, y: x.clone().div_(y, rounding_mode="trunc"),
    "ClampMinTensor": torch.clamp_min,
    "InplaceClampMinTensor": in_place("clamp_min"),
    "ClampTensor": lambda x, y: x.clamp(y, y + 1),
    "Lerps": lambda x, y: torch.lerp(x, y, 0.3),
    "InplaceLerps": in_place("lerp", 0.3),
    "Lerp": lambda x, y: torch.lerp(x, y, y),
    "Addcmul": lambda x, y: torch.addcmul(x, y, y, value=2),
    "InplaceAddcmul": lambda x, y: x.clone().addcmul_(y, y, value=2),
    "Addcdiv": lambda x, y: torch.addcdiv(x, y, y.abs() + 1, value=2),
    "InplaceAddcdiv": lambda x, y: x.clone().addcdiv_(y, y.abs() + 1, value=2),
    "SWhere": lambda x, y: torch.where(x > y, x, y),
    "IsClose": torch.isclose,
    "Equal": lambda x, y: torch.equal(x, y),
}
IMAGE, PLAIN, ROWS, SEQUENCE, VOLUME = (2, 4, 8, 10), (8, 10), (5, 12), (2, 4, 9), (2, 4, 4, 6, 6)


def index(x: Tensor, *values: int) -> Tensor:
    return torch.tensor(values, device=x.device)


# Operator -> function and the shapes of its tensors, once a form.
OTHERS: dict[str, tuple[Function, tuple[tuple[tuple[int, ...], ...], ...]]] = {
    "GeluV2": (lambda x: gelu_as_asked(x), ((IMAGE,), ((),))),
    "Prelu": (F.prelu, ((IMAGE, (4,)), (IMAGE, (1,)), ((3, 4), (4,)), (SEQUENCE, (4,)))),
    "Glu": (F.glu, ((IMAGE,), (ROWS,))),
    "Convolution": (
        lambda x, w, b: F.conv2d(x, w, b, 2, 1),
        ((IMAGE, (6, 4, 3, 3), (6,)), (IMAGE, (6, 4, 1, 1), (6,))),
    ),
    "ConvDepthwise2d": (lambda x, w: F.conv2d(x, w, groups=4), ((IMAGE, (4, 1, 3, 3)),)),
    "Mm": (torch.mm, ((ROWS, (12, 3)),)),
    "Matmul": (torch.matmul, (((2, 3, 5, 12), (12, 3)), ((12,), (12, 3)), ((2, 5, 12), (12,)))),
    "BatchMatMul": (torch.bmm, (((2, 5, 12), (2, 12, 3)),)),
    "Dot": (torch.dot, (((12,), (12,)),)),
    "Mv": (torch.mv, ((ROWS, (12,)),)),
    "Addmm": (
        lambda b, x, w: torch.addmm(b, x, w, beta=0.5, alpha=2),
        (((3,), ROWS, (12, 3)), ((5, 3), ROWS, (12, 3)), ((1, 3), ROWS, (12, 3))),
    ),
    "InplaceAddmm": (lambda b, x, w: b.clone().addmm_(x, w), (((5, 3), ROWS, (12, 3)),)),
    "Baddbmm": (torch.baddbmm, (((2, 5, 3), (2, 5, 12), (2, 12, 3)),)),
    "InplaceBaddbmm": (
        lambda b, x, w: b.clone().baddbmm_(x, w), (((2, 5, 3), (2, 5, 12), (2, 12, 3)),),
    ),
    "Addmv": (torch.addmv, (((5,), ROWS, (12,)),)),
    "FlashAttentionScore": (F.scaled_dot_product_attention, (((1, 2, 5, 16),) * 3,)),
    "BatchNorm": (
        lambda x, m, v, w, b: F.batch_norm(x, m, v.abs() + 0.5, w, b),
        tuple((shape, *((shape[1],),) * 4) for shape in ((3, 4), SEQUENCE, IMAGE, VOLUME)),
    ),
    "LayerNorm": (
        lambda x, w, b: F.layer_norm(x, w.shape, w, b),
        ((ROWS, (12,), (12,)), ((2, 3, 16), (3, 16), (3, 16))),
    ),
    "GroupNorm": (
        lambda x, w, b: F.group_norm(x, 2, w, b), tuple((s, (4,), (4,)) for s in (SEQUENCE, IMAGE)),
    ),
    "RmsNorm": (lambda x, w: rms_norm(x, w), ((ROWS, (12,)),)),
    "Std": (lambda x: x.std(-1), ((ROWS,), (IMAGE,))),
    "VarCorrection": (lambda x: x.var((1, 2), correction=0), ((IMAGE,),)),
    "VarMean": (lambda x: torch.var_mean(x, -1), ((ROWS,),)),
    "StdMeanCorrection": (lambda x: torch.std_mean(x, -1), ((ROWS,),)),
    "Norm": (lambda x: x.norm(1, -1), ((ROWS,),)),
    "AdaptiveAvgPool2d": (
        lambda x: F.adaptive_avg_pool2d(x, (3, 4)), ((IMAGE,), (IMAGE[1:],)),
    ),
    "AvgPool2d": (lambda x: F.avg_pool2d(x, 3, 2, 1), ((IMAGE,), (IMAGE[1:],))),
    "AvgPool3d": (lambda x: F.avg_pool3d(x, 2), ((VOLUME,),)),
    "MaxPool2dWithMask": (lambda x: F.max_pool2d(x, 3, 2, 1), ((IMAGE,),)),
    "MaxPool3dWithArgmax": (lambda x: F.max_pool3d(x, 2), ((VOLUME,),)),
    "AdaptiveMaxPool2d": (lambda x: F.adaptive_max_pool2d(x, (3, 4)), ((IMAGE,),)),
    **{
        f"Upsample{name}": (
            lambda x, mode=mode, more=more: F.interpolate(x, scale_factor=1.5, mode=mode, **more),
            ((shape,),),
        )
        for name, mode, more, shape in (
            ("Nearest1d", "nearest", {}, SEQUENCE),
            ("Nearest2d", "nearest", {}, IMAGE),
            ("Nearest3d", "nearest", {}, VOLUME),
            ("Linear1d", "linear", {}, SEQUENCE),
            ("Bilinear2d", "bilinear", {"align_corners": True}, IMAGE),
            ("Bicubic2d", "bicubic", {}, IMAGE),
            ("Trilinear3d", "trilinear", {}, VOLUME),
            ("Bilinear2dAA", "bilinear", {"antialias": True}, IMAGE),
            ("Bicubic2dAA", "bicubic", {"antialias": True}, IMAGE),
        )
    },
    "GridSampler2D": (
        lambda x, grid: sampled(x, grid),
        ((IMAGE, (2, 3, 5, 2)),),
    ),
    "GridSampler3D": (
        lambda x, grid: sampled(x, grid),
        ((VOLUME, (2, 2, 3, 5, 3)),),
    ),
    **{
        f"{name}Pad{len(pad) // 2}d": (
            lambda x, mode=mode, pad=pad: F.pad(x, pad, mode=mode), ((shape,),),
        )
        for name, mode in (("Reflection", "reflect"), ("Replication", "replicate"))
        for pad, shape in (((1, 2), SEQUENCE), ((1, 2, 2, 1), IMAGE), ((1, 0, 1, 1, 0, 1), VOLUME))
    },
    "ConstantPadNd": (lambda x: F.pad(x, (1, 2, 0, 1), value=2), ((IMAGE,), (PLAIN,))),
    "Im2col": (lambda x: F.unfold(x, 3, padding=1), ((IMAGE,),)),
    "Im2colBackward": (lambda x: F.fold(x, (4, 4), 2), (((2, 12, 9),),)),
    "Cat": (lambda x, y: torch.cat([x, y], 1), ((IMAGE, (2, 3, 8, 10)), (ROWS, (5, 2)))),
    "Stack": (lambda x, y: torch.stack([x, y], 1), ((ROWS, ROWS),)),
    "Permute": (lambda x: torch.permute(x, (0, 2, 3, 1)).contiguous(), ((IMAGE,),)),
    "Roll": (lambda x: x.roll((1, -2), (2, 3)), ((IMAGE,),)),
    "Tril": (lambda x: x.tril(1), ((ROWS,), (IMAGE,))),
    "Triu": (lambda x: x.triu(-1), ((ROWS,), (IMAGE,))),
    "Index": (lambda x: x[:, index(x, 2, 0)], ((ROWS,), (IMAGE,))),
    "IndexPutImpl": (lambda x: x.clone().index_put_((index(x, 1),), x[0]), ((ROWS,),)),
    "IndexSelect": (lambda x: x.index_select(1, index(x, 2, 0)), ((ROWS,), (IMAGE,))),
    "IndexAdd": (lambda x: x.index_add(1, index(x, 2, 0), x[:, :2]), ((ROWS,),)),
    "Gather": (lambda x: x.gather(1, index(x, 2, 0)[None]), ((ROWS,),)),
    "Embedding": (lambda x: F.embedding(index(x, 2, 0), x), ((ROWS,),)),
    "InplaceMaskedFillTensor": (lambda x, v: x.clone().masked_fill_(x > 1, v), ((ROWS, ()),)),
    "InplaceFillTensor": (lambda x, v: x.clone().fill_(v), ((ROWS, ()),)),
    "Topk": (lambda x: x.topk(3, -1), ((ROWS,),)),
    "OneHot": (lambda x: F.one_hot(index(x, 2, 0), 4), ((ROWS,),)),
    "Arange": (lambda x: torch.arange(1, 9, 2, device=x.device, dtype=x.dtype), (((),),)),
    "Linspace": (lambda x: torch.linspace(1, 9, 5, device=x.device, dtype=x.dtype), (((),),)),
    "Eye": (lambda x: torch.eye(3, 4, device=x.device, dtype=x.dtype), (((),),)),
    "InplaceOne": (lambda x: torch.ones(3, device=x.device, dtype=x.dtype), (((),),)),
    "RepeatInterleave": (lambda x: x.repeat_interleave(index(x, *range(60))), ((ROWS,),)),
    "RepeatInterleaveInt": (lambda x: x.repeat_interleave(2), ((ROWS,),)),
    "RepeatInterleaveIntWithDim": (lambda x: x.repeat_interleave(2, 1), ((ROWS,),)),
    "RepeatInterleaveWithDim": (
        lambda x: x.repeat_interleave(index(x, 1, 0, 2, 1, 3), 0), ((ROWS,),),
    ),
    "MseLoss": (F.mse_loss, ((ROWS, ROWS),)),
    "NLLLoss": (lambda x: F.nll_loss(x, index(x, 0, 1, 2, 3, 4)), ((ROWS,),)),
    "LSTM": (lambda x, *params: lstm(x, params), (((6, 2, 8), (20, 8), (20, 5), (20,), (20,)),)),
    "DynamicRNN": (lambda x, *params: lstm(x, params), (((6, 2, 8), (20, 8), (20, 5)),)),
}  # fmt: skip
# What torch_npu calls in training, by its own random numbers, under other settings, or not in this
# release; test_numbers.py has a training step.
ELSEWHERE = frozenset(
    """BatchNormBackward ConvolutionBackward GeluBackward LogSoftmaxBackward MseLossBackward
    NLLLossBackward SigmoidBackward SiluBackward SoftmaxBackward ThresholdBackward
    InplaceBernoulli InplaceNormal InplaceRandom InplaceUniform
    FastLayerNorm MaxPool2dWithIndices MeanV2 LogSigmoid NonzeroV2 ChannelShuffle
    SplitWithSize""".split()
)

# torch_npu 2.13 has these done by other operators, which are compared all the same.
BY_OTHERS = frozenset(
    """Argsort Cast ConvDepthwise2d InplaceBaddbmm InplaceBitwiseOrScalar InplaceBitwiseOrTensor
    InplaceClamp InplaceClampMin InplaceNeg InplaceRound InplaceSelu InplaceTrunc IsInf Norm Permute
    Selu Square""".split()
)
# torch_npu's own result of whole numbers has their dtype, where the CPU's is float32.
KEEP = frozenset({"Erf", "Exp"})


def gelu_as_asked(x: Tensor) -> Tensor:
    return torch.ops.npu.npu_gelu(x, approximate="none") if x.device.type == "npu" else F.gelu(x)


def sampled(x: Tensor, grid: Tensor) -> Tensor:
    """The CPU's own kernel for short formats rounds coordinates to them."""
    if x.device.type == "cpu":
        if not x.is_floating_point():
            raise TypeError("coordinates are no whole numbers")
        found = F.grid_sample(x.float(), grid.sigmoid().float(), align_corners=False)
        return found.to(x.dtype)
    return F.grid_sample(x, grid.sigmoid(), align_corners=False)


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    if x.device.type == "npu":
        result: Tensor = torch.ops.npu.npu_rms_norm(x, weight, 1e-5)[0]
        return result
    if not x.is_floating_point():
        raise TypeError("statistics of whole numbers")
    return F.rms_norm(x.float(), weight.shape, weight.float(), 1e-5).to(x.dtype)


def lstm(x: Tensor, params: tuple[Tensor, ...]) -> Any:
    state = torch.zeros(1, 2, 5, device=x.device, dtype=x.dtype)
    return torch._VF.lstm(
        x, (state, state), list(params), len(params) == 4, 1, 0.0, False, False, False
    )


def draw(shape: tuple[Any, ...], dtype: torch.dtype, seed: int) -> Tensor:
    turned = shape[-1:] == ("turned",)
    sizes = shape[:-1] if turned else shape
    values = torch.randn(sizes, generator=torch.Generator().manual_seed(seed)) * 2
    if not dtype.is_floating_point:
        values = values.round().abs() + 1 if dtype != torch.bool else values > 0
    result = values.to(dtype)
    return result.transpose(1, 2).contiguous().transpose(1, 2) if turned else result


def parts(result: Any) -> list[Any]:
    if isinstance(result, Tensor):
        return [result.cpu()]
    return (
        [part for item in result for part in parts(item)]
        if isinstance(result, (tuple, list))
        else [result]
    )


def compare(found: Any, expected: Any, *, exact: bool) -> None:
    if not isinstance(expected, Tensor):
        assert found == expected
        return
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    units = {torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}.get(found.dtype, 2.0**-22)
    # A unit of the format, of numbers near 1 at least: sums and functions that pass zero.
    factor = 2 if exact else 8
    torch.testing.assert_close(
        found, expected, rtol=factor * units, atol=factor * units, equal_nan=True
    )


FORMS: Mapping[str, tuple[Function, tuple[Any, ...]]] = {
    **{name: (function, tuple((shape,) for shape in ONE)) for name, function in SINGLE.items()},
    **{name: (function, TWO) for name, function in DOUBLE.items()},
    **OTHERS,
}


@functools.cache
def expected_of(name: str) -> list[tuple[torch.dtype, tuple[Any, ...], list[Any]]]:
    """What the CPU gives, for the dtypes and shapes that it takes."""
    function, forms = FORMS[name]
    found = []
    for dtype in DTYPES:
        for shapes in forms:
            tensors = [draw(shape, dtype, seed) for seed, shape in enumerate(shapes)]
            try:
                found.append((dtype, shapes, parts(function(*tensors))))
            except (RuntimeError, NotImplementedError, IndexError, ValueError, TypeError):
                continue
    return found


@pytest.mark.filterwarnings("ignore:LSTM fallback to acl_op")  # of torch_npu, on the way to it
@pytest.mark.parametrize("kernels", ["aten", "cann"])
@pytest.mark.parametrize("name", sorted(FORMS))
def test_operator(name: str, kernels: str, cann: Emulator) -> None:
    cann.set_kernels(kernels)
    function, _ = FORMS[name]
    wanted = [case for case in expected_of(name) if name not in KEEP or case[0].is_floating_point]
    compared = 0
    for dtype, shapes, expected in wanted:
        tensors = [draw(shape, dtype, seed).npu() for seed, shape in enumerate(shapes)]
        try:
            found = parts(function(*tensors))
        except RuntimeError as error:
            if is_refused(str(error)):
                continue
            raise AssertionError(f"{dtype} {shapes}: {str(error)[:300]}") from error
        compared += 1
        for one, other in zip(found, expected, strict=True):
            try:
                compare(one, other, exact=kernels == "aten")
            except AssertionError as error:
                raise AssertionError(f"{dtype} {shapes}: {error}") from error
    assert compared > 0
    assert (name in cann.operator_counts()) is (name not in BY_OTHERS)


def is_refused(message: str) -> bool:
    """Whether the contract refuses, or torch_npu's own host code before CANN is asked."""
    asked = ("EMULATED NPU", "NPU function error", "OPS function error", "libopapi")
    return "error code is 161002" in message or not any(word in message for word in asked)


def test_every_operator_of_the_table_is_called_here(loaded_npu: Emulator) -> None:
    library = (loaded_npu.directory / "libopapi.so").read_bytes()
    table = {name.decode() for name in re.findall(rb"aclnn(\w+?)GetWorkspaceSize", library)}
    legacy = {"CeluV2", "DynamicRNN"}
    assert table - set(FORMS) - ELSEWHERE == set()
    assert set(FORMS) - table == legacy and ELSEWHERE <= table
