import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.execution import imitation
from harness.judgement.arithmetic import Arithmetic, Factors


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(7, 22))
def test_rounding_is_to_nearest_with_that_many_bits(value, bits):
    rounded = imitation.round_mantissa(torch.tensor([value]), Factors(bits)).item()
    if not np.isfinite(rounded):  # beyond the largest number
        assert abs(value) > 2.0**127
        return
    mantissa, exponent = math.frexp(value)
    # round() of Python is to nearest, ties to even, on the same grid (normal numbers).
    if abs(value) > 1e-36:
        assert rounded == math.ldexp(round(math.ldexp(mantissa, bits + 1)), exponent - bits - 1)


def test_nonfinite_values_stay():
    values = torch.tensor([float("nan"), float("inf"), -float("inf")])
    rounded = imitation.round_mantissa(values, Factors(11))
    assert torch.equal(torch.isnan(rounded), torch.isnan(values))
    assert torch.equal(rounded[1:], values[1:])


def test_seven_bits_are_bfloat16():
    values = torch.randn(1000)
    expected = values.to(torch.bfloat16).float()
    assert torch.equal(imitation.round_mantissa(values, Factors(7)), expected)


def run(arithmetic, function, *tensors):
    with torch.no_grad(), imitation.Imitation(arithmetic):
        return function(*tensors)


def test_short_convolutions_round_both_factors_and_nothing_else():
    x, w, m = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3), torch.randn(8, 8)
    arithmetic = Arithmetic(short_conv=Factors(11))
    expected = torch.conv2d(
        imitation.round_mantissa(x, Factors(11)), imitation.round_mantissa(w, Factors(11))
    )
    assert torch.equal(run(arithmetic, torch.conv2d, x, w), expected)
    assert torch.equal(run(arithmetic, torch.mm, m, m), m @ m)


def test_short_matrix_products_cover_linear_layers():
    x, w, b = torch.randn(5, 8), torch.randn(3, 8), torch.randn(3)
    expected = torch.addmm(
        b, imitation.round_mantissa(x, Factors(10)), imitation.round_mantissa(w, Factors(10)).t()
    )
    result = run(Arithmetic(short_matmul=Factors(10)), torch.nn.functional.linear, x, w, b)
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
