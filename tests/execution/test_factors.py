"""What a device makes of float32 factors is measured, and believed only where it is declared."""

from __future__ import annotations

import pytest
import torch

from harness.execution import factors, imitation
from harness.judgement.arithmetic import Arithmetic, Factors, declared

CPU = torch.device("cpu")
HF32 = {"conv.allow_hf32": "True", "matmul.allow_hf32": "False"}
TF32 = {"cudnn.allow_tf32": "True", "matmul.allow_tf32": "True"}


def test_float32_is_seen_and_needs_no_word():
    assert factors.measure(CPU, {}, "Ascend910B1") == ({}, [])
    # A device that is better than it may be stays declared as it may be.
    assert factors.measure(CPU, HF32, "Ascend910B1") == ({}, [])


@pytest.mark.parametrize(
    ("numerics", "chip", "form", "believed"),
    [
        (HF32, "Ascend910B1", Factors(11, "even"), True),
        (HF32, "Ascend910B1", Factors(11, "away"), True),
        (HF32, "Ascend910B1", Factors(11, "truncate"), False),
        (HF32, "Ascend910B1", Factors(10, "even"), False),
        (HF32, "Ascend950PR", Factors(10, "away"), True),
        (TF32, "NVIDIA H100", Factors(10, "truncate"), True),
        (TF32, "NVIDIA H100", Factors(7, "even"), False),
        ({}, "Ascend910B1", Factors(11, "even"), False),
    ],
)
def test_only_what_is_published_for_the_declared_format_is_believed(numerics, chip, form, believed):
    with imitation.Imitation(Arithmetic(short_conv=form)):
        seen, undeclared = factors.measure(CPU, numerics, chip)
    if believed:
        assert seen == {"conv.factors": str(form)} and undeclared == []
        assert declared("float32", {**numerics, **seen}).short_conv == form
    else:
        (problem,) = undeclared
        assert seen == {} and str(form) in problem and "is declared" in problem


def test_rounding_to_nearest_and_towards_zero():
    values = torch.tensor([1 + 2.0**-12, 1 + 3 * 2.0**-12, -(1 + 2.0**-12), 1 + 2.0**-13])
    for ties, expected in (
        ("even", [1, 1 + 2 * 2.0**-11, -1, 1]),
        ("away", [1 + 2.0**-11, 1 + 2 * 2.0**-11, -(1 + 2.0**-11), 1]),
        ("truncate", [1, 1 + 2.0**-11, -1, 1]),
    ):
        got = imitation.round_mantissa(values, Factors(11, ties))
        assert got.tolist() == expected, ties
