"""How factors and results are rounded is read off products, bit by bit."""

import dataclasses

import pytest
import torch

from harness.execution import imitation
from harness.execution.probes import rounding, summation
from harness.execution.probes.rounding import Unknown
from harness.judgement.arithmetic import TIES, Arithmetic, Factors

CPU = torch.device("cpu")
PRODUCTS = [one for one in summation.of_device(CPU, torch.float32) if one.is_product]


@pytest.mark.parametrize("bits", [22, 15, 11, 10, 7, 3])
@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("product", PRODUCTS, ids=lambda one: one.name)
def test_every_form_is_told_from_the_others(product, bits, ties):
    form = Factors(bits, ties)
    with imitation.Imitation(Arithmetic(short_conv=form, short_matmul=form)):
        assert rounding.of_factors(product) == (form, form)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_cpu_keeps_factors_and_rounds_results_to_nearest(dtype):
    for one in summation.of_device(CPU, dtype):
        own = Factors(one.explicit_bits)
        assert rounding.of_result(one) == own
        assert not one.is_product or rounding.of_factors(one) == (own, own)


@pytest.mark.parametrize("bits", [10, 7])
@pytest.mark.parametrize("ties", TIES)
def test_a_shortened_result_is_no_shortened_factor(bits, ties):
    form = Factors(bits, ties)
    shortened = dataclasses.replace(
        PRODUCTS[0], run=lambda a, b: imitation.round_mantissa(torch.mm(a, b), form)
    )
    assert rounding.of_result(shortened) == form


def test_one_factor_alone_and_forms_of_no_name():
    def pairs(left, right):
        high = right.bfloat16().float()
        return torch.mm(left, high + (right - high).bfloat16().float())

    left, right = rounding.of_factors(dataclasses.replace(PRODUCTS[0], run=pairs))
    assert left == Factors(23)
    # Two bfloat16 numbers hold sixteen bits and a sign.
    assert isinstance(right, Unknown) and 2**-18 <= right.error <= 2**-17
