import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.execution import gelu, imitation
from harness.judgement.arithmetic import HF32_BITS, TF32_BITS, Arithmetic, declared


@pytest.mark.parametrize(
    ("dtype", "numerics", "expected"),
    [
        ("float32", {}, Arithmetic()),
        ("float32", {"conv.allow_hf32": "False", "matmul.allow_hf32": "False"}, Arithmetic()),
        (
            "float32",
            {"conv.allow_hf32": "True", "matmul.allow_hf32": "False"},
            Arithmetic(short_conv=HF32_BITS),
        ),
        (
            "float32",
            {"cudnn.allow_tf32": "True", "matmul.allow_tf32": "True"},
            Arithmetic(short_conv=TF32_BITS, short_matmul=TF32_BITS),
        ),
        ("bfloat16", {"conv.allow_hf32": "True"}, Arithmetic("bfloat16")),
        ("float32", {"gelu": "tanh"}, Arithmetic(gelu="tanh")),
        ("float16", {"gelu": "tanh"}, Arithmetic("float16", gelu="tanh")),
    ],
)
def test_the_arithmetic_follows_from_the_settings_read_back(dtype, numerics, expected):
    assert declared(dtype, numerics) == expected
    assert expected.exact == (expected == Arithmetic())


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(7, 22))
def test_rounding_is_to_nearest_with_that_many_bits(value, bits):
    rounded = imitation.round_mantissa(torch.tensor([value]), bits).item()
    if not np.isfinite(rounded):  # beyond the largest number
        assert abs(value) > 2.0**127
        return
    mantissa, exponent = math.frexp(value)
    # round() of Python is to nearest, ties to even, on the same grid (normal numbers).
    if abs(value) > 1e-36:
        assert rounded == math.ldexp(round(math.ldexp(mantissa, bits + 1)), exponent - bits - 1)


def test_nonfinite_values_stay():
    values = torch.tensor([float("nan"), float("inf"), -float("inf")])
    rounded = imitation.round_mantissa(values, 11)
    assert torch.equal(torch.isnan(rounded), torch.isnan(values))
    assert torch.equal(rounded[1:], values[1:])


def test_seven_bits_are_bfloat16():
    values = torch.randn(1000)
    expected = values.to(torch.bfloat16).float()
    assert torch.equal(imitation.round_mantissa(values, 7), expected)


def run(arithmetic, function, *tensors):
    with torch.no_grad(), imitation.Imitation(arithmetic):
        return function(*tensors)


def test_short_convolutions_round_both_factors_and_nothing_else():
    x, w, m = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3), torch.randn(8, 8)
    arithmetic = Arithmetic(short_conv=11)
    expected = torch.conv2d(imitation.round_mantissa(x, 11), imitation.round_mantissa(w, 11))
    assert torch.equal(run(arithmetic, torch.conv2d, x, w), expected)
    assert torch.equal(run(arithmetic, torch.mm, m, m), m @ m)


def test_short_matrix_products_cover_linear_layers():
    x, w, b = torch.randn(5, 8), torch.randn(3, 8), torch.randn(3)
    expected = torch.addmm(b, imitation.round_mantissa(x, 10), imitation.round_mantissa(w, 10).t())
    result = run(Arithmetic(short_matmul=10), torch.nn.functional.linear, x, w, b)
    assert torch.equal(result, expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_stored_result_fits_the_format(dtype):
    seen = []

    def model(x):
        for step in (torch.sigmoid, lambda t: t * 1.37, torch.relu_, lambda t: t.mean(1)):
            x = step(x)
            seen.append(x.clone())
        return x

    run(Arithmetic(dtype), model, torch.randn(3, 100))
    for tensor in seen:
        assert torch.equal(tensor, tensor.to(getattr(torch, dtype)).float())


def test_an_overflow_of_float16_is_an_infinity():
    assert torch.isinf(run(Arithmetic("float16"), torch.exp, torch.tensor([12.0]))).all()


def test_weights_are_rounded_in_place_and_integers_stay():
    model = torch.nn.BatchNorm2d(4)
    torch.nn.init.normal_(model.weight)
    before = model.weight.detach().clone()
    imitation.round_weights(model, Arithmetic("bfloat16"))
    assert torch.equal(model.weight, before.to(torch.bfloat16).float())
    assert model.num_batches_tracked.dtype == torch.int64


@pytest.mark.parametrize(("form", "approximate"), [("erf", "none"), ("tanh", "tanh"), ("", None)])
@pytest.mark.parametrize("asked", ["none", "tanh"])
def test_every_gelu_takes_the_declared_form(form, approximate, asked):
    x = torch.linspace(-5, 5, 101)
    with imitation.Imitation(Arithmetic(gelu=form)):
        result = torch.nn.functional.gelu(x, approximate=asked)
    assert torch.equal(result, torch.nn.functional.gelu(x, approximate=approximate or asked))


def test_a_form_of_gelu_is_named_and_changes_no_rounding():
    assert str(Arithmetic(gelu="tanh")) == "float32 with every gelu as tanh"
    assert "HF32 conv and every gelu as erf" in str(Arithmetic(short_conv=HF32_BITS, gelu="erf"))
    assert str(Arithmetic("float16", gelu="tanh")) == "float16 with every gelu as tanh"
    assert Arithmetic(gelu="tanh").full and not Arithmetic(gelu="tanh").exact
    assert not Arithmetic(short_conv=HF32_BITS).full and not Arithmetic("float16").full


class OtherGelu(torch.utils._python_dispatch.TorchDispatchMode):
    """A device that computes its own GELU."""

    def __init__(self, compute) -> None:
        super().__init__()
        self.compute = compute

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.gelu.default and args[0].dtype == torch.float32:
            return self.compute(args[0].double(), **(kwargs or {})).float()
        return func(*args, **(kwargs or {}))


def of(approximate: str):
    return lambda x, **_: torch.ops.aten.gelu(x, approximate=approximate)


@pytest.mark.parametrize(
    ("compute", "asked", "form"),
    [
        (torch.ops.aten.gelu, {"none"}, None),
        (torch.ops.aten.gelu, {"none", "tanh"}, None),
        (of("tanh"), {"none"}, "tanh"),
        (of("tanh"), {"tanh"}, None),
        (of("tanh"), {"none", "tanh"}, "tanh"),
        (of("none"), {"tanh"}, "erf"),
        (lambda x, **_: 1.01 * torch.ops.aten.gelu(x), {"none"}, None),  # no form: a fault
        (lambda x, **_: torch.sigmoid(1.702 * x) * x, {"none"}, None),
        (of("none"), set(), None),
    ],
)
def test_the_form_of_gelu_is_measured(compute, asked, form):
    with OtherGelu(compute):
        assert gelu.instead(torch.device("cpu"), asked) == form
