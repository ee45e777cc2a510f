"""Form and worst error of functions, where both are planted."""

import contextlib

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harness.execution.probes import functions

CPU = torch.device("cpu")
aten = torch.ops.aten


class Instead(TorchDispatchMode):
    """Computes one operator by another function; the probe's own float64 is left alone."""

    def __init__(self, func, by):
        super().__init__()
        self.func, self.by = func, by

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is self.func and args[0].dtype != torch.float64:
            return self.by(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def quick(x):
    return x * torch.sigmoid(1.702 * x)


def seen(name, dtype=torch.float32, mode=None):
    with mode or contextlib.nullcontext():
        return functions.traits(name, CPU, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", functions.FUNCTIONS)
def test_the_cpu_computes_what_is_asked_within_what_is_allowed(name, dtype):
    found = seen(name, dtype)
    assert found.form == {"gelu": "erf", "gelu tanh": "tanh"}.get(name, name)
    assert found.of_allowed < 1
    assert found == seen(name, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("form", "by"),
    [
        ("tanh", lambda x, approximate="none": aten.gelu.default(x, approximate="tanh")),
        ("sigmoid", lambda x, approximate="none": quick(x.double()).to(x.dtype)),
        (functions.NO_FORM, lambda x, approximate="none": x.clamp_min(0)),
    ],
)
def test_another_form_of_gelu_is_named(form, by, dtype):
    assert seen("gelu", dtype, Instead(aten.gelu.default, by)).form == form


@pytest.mark.parametrize("ulps", [2, 4, 1000])
def test_the_worst_error_is_the_planted_one(ulps):
    def off(x):
        return aten.exp.default(x.double()) * (1 + ulps * 2.0**-23)

    found = seen("exp", mode=Instead(aten.exp.default, lambda x: off(x).float()))
    # A unit in the last place is 2^-23 of numbers from 1 on, and half as much of those below 2.
    assert ulps - 1 < found.worst_ulp < 2 * ulps + 1
    assert (found.of_allowed > 1) == (ulps == 1000)


def test_results_that_are_flushed_to_zero_are_no_error():
    def flushing(x, dim, to_float):
        result = aten._softmax.default(x, dim, to_float)
        return torch.where(result < torch.finfo(x.dtype).tiny, 0, result)

    plain = seen("softmax", torch.float16)
    found = seen("softmax", torch.float16, Instead(aten._softmax.default, flushing))
    assert found.bits != plain.bits and found.worst_ulp == plain.worst_ulp
    assert found.of_allowed < 1
