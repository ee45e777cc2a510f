"""How operators of several steps go about it, where that is known."""

import contextlib
from unittest import mock

import pytest
import torch
from torch.nn import functional

from harness.execution.probes import composites, special
from harness.judgement import published

CPU = torch.device("cpu")
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def name_of(dtype):
    return str(dtype).removeprefix("torch.")


@contextlib.contextmanager
def instead(name, by):
    with mock.patch.object(functional, name, by):
        yield


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_cpu_goes_about_it_as_published(dtype):
    device = published.Device("cpu", "", {})
    seen = {name: composites.traits(name, CPU, dtype) for name in composites.COMPOSITES}
    seen |= {name: special.of_elements(name, CPU, dtype) for name in special.ELEMENTS}
    for operator, traits in seen.items():
        for trait, value in traits.items():
            rule = published.rule(device, name_of(dtype), operator, trait)
            assert rule is not None and rule.allows(value), (operator, trait, value)


def one_pass(x, *args, eps, **kwargs):
    dims = list(range(1, x.dim()))
    mean = x.mean(dims, keepdim=True)
    return (x - mean) / (x.square().mean(dims, keepdim=True) - mean * mean + eps).sqrt()


@pytest.mark.parametrize("name", ["layer_norm", "group_norm"])
def test_a_variance_of_one_pass_is_seen(name):
    with instead(name, one_pass):
        found = composites.traits(name, CPU, torch.float32)
    assert found["variance"] == "mean square minus square of the mean"


def test_a_constant_input_without_a_root_is_seen():
    def below_zero(x, groups, eps):
        return torch.full_like(x, torch.nan)

    with instead("group_norm", below_zero):
        assert composites.traits("group_norm", CPU, torch.float16)["constant input"] == (
            "NaN for some"
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_statistics_in_the_format_are_seen(dtype):
    def narrow(x, shape, weight, bias, eps):
        wide = x.float()
        mean = wide.mean(-1, keepdim=True).to(dtype).float()
        rstd = (((wide - mean).square().mean(-1, keepdim=True) + eps).rsqrt()).to(dtype).float()
        return ((wide - mean) * rstd).to(dtype)

    with instead("layer_norm", narrow):
        found = composites.traits("layer_norm", CPU, dtype)
    assert set(found.values()) == {"in the format"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_differences_in_the_format_are_seen(dtype):
    whole = torch.softmax

    def narrow(x, dim):
        if x.dtype != dtype:
            return whole(x, dim)
        return whole((x - x.amax(dim, keepdim=True)).float(), dim).to(dtype)

    with mock.patch.object(torch, "softmax", narrow):
        found = composites.traits("softmax", CPU, dtype)
    assert found == {"differences": "in the format"}


@pytest.mark.parametrize(
    ("inverse", "dtype", "seen"),
    [
        (torch.float16, torch.float16, "times the inverse in the format"),
        (torch.float32, torch.float32, "times the inverse in float32"),
        (torch.bfloat16, torch.float16, "relative error up to 0.0"),
    ],
)
def test_a_factor_is_seen_with_its_rounding(inverse, dtype, seen):
    factor = float(torch.tensor(1 / 9).to(inverse))

    def by_factor(x, *window):
        total = functional.conv2d(x.double(), torch.ones(1, 1, 3, 3).double(), padding=1)
        return (total * factor).to(x.dtype)

    with instead("avg_pool2d", by_factor):
        assert composites.traits("avg_pool2d", CPU, dtype)["divisor"].startswith(seen)


def test_what_comes_by_chance_is_seen():
    turns = iter(range(1000))

    def by_chance(x, shape):
        return x + next(turns) % 2

    with instead("layer_norm", by_chance):
        assert composites.repeats("layer_norm", CPU, torch.float32) == {
            "repeats": composites.DIFFERENT
        }
    assert composites.repeats("layer_norm", CPU, torch.float32)["repeats"] == composites.SAME


def test_a_choice_that_passes_over_nan_is_seen():
    def passing(image, size):
        return torch.nan_to_num(image, nan=-1.0).amax((-1, -2), keepdim=True)

    with instead("max_pool2d", passing):
        found = special.of_elements("max_pool2d", CPU, torch.float32)
    assert found == {"NaN": "is passed over"}
