"""The profile `cann`: what CANN's public sources say of its kernels, held to formulas written anew.

Worst errors of functions are those that the same formulas had elsewhere, evaluated in float32 with
a correctly rounded exponential: 1.9 units for silu and sigmoid, 2.2 for tanh, 6.6 for erf.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.devices.emulator import Emulator

HALF = [torch.float16, torch.bfloat16]
ARGUMENTS = torch.cat([torch.linspace(-6, 6, 200_001), torch.linspace(-0.05, 0.05, 20_001)])


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def on_npu(function: Callable[..., Any], *tensors: Tensor) -> Tensor:
    result: Tensor = function(*(value.npu() for value in tensors)).cpu()
    return result


def units_off(actual: Tensor, exact: Tensor) -> Tensor:
    """Errors in units of the last place that float32 has at the exact value."""
    size = exact.abs().float()
    unit = (torch.nextafter(size, torch.tensor(torch.inf)) - size).double()
    return (actual.double() - exact).abs() / unit


def away(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Rounded to nearest, ties away from zero, by the two neighbours in the format."""
    nearest = value.to(dtype)
    up = torch.nextafter(nearest, torch.full_like(nearest, torch.inf))
    down = torch.nextafter(nearest, torch.full_like(nearest, -torch.inf))
    error = (value - nearest.float()).abs()
    for other in (up, down):
        tie = ((value - other.float()).abs() == error) & (other.abs() > nearest.abs())
        nearest = torch.where(tie, other, nearest)
    return nearest.float()


FUNCTIONS: dict[str, tuple[Callable[..., Tensor], Callable[[Tensor], Tensor], float]] = {
    "silu": (F.silu, F.silu, 2.0),
    "sigmoid": (torch.sigmoid, torch.sigmoid, 2.0),
    "tanh": (torch.tanh, torch.tanh, 2.3),
    "erf": (torch.erf, torch.erf, 6.7),
    "hardswish": (F.hardswish, F.hardswish, 2.5),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_off_by_as_many_units_as_their_formula(name: str, cann: Emulator) -> None:
    function, exact, units = FUNCTIONS[name]
    off = units_off(on_npu(function, ARGUMENTS), exact(ARGUMENTS.double()))
    assert 1.0 < off.max() <= units, "more than ATen's, and no more than the formula's"
    cann.set_kernels("aten")
    before = units_off(on_npu(function, ARGUMENTS), exact(ARGUMENTS.double()))
    assert off.max() > before.max() or name in ("silu", "sigmoid", "hardswish")


def test_both_forms_of_gelu_err_absolutely(cann: Emulator) -> None:
    x = ARGUMENTS
    found = on_npu(F.gelu, x).double() - F.gelu(x.double(), approximate="tanh")
    assert found.abs().max() < 6e-7
    found = on_npu(torch.ops.npu.npu_gelu, x).double() - F.gelu(x.double())
    assert found.abs().max() < 7e-7 and found.square().mean().sqrt() < 1.2e-7


def test_special_values_of_functions(cann: Emulator) -> None:
    x = torch.tensor([torch.nan, torch.inf, -torch.inf, -100.0, 100.0])
    nan, inf = torch.nan, torch.inf
    for function, wanted in (
        (torch.sigmoid, [nan, 1, 0, 0, 1]),
        (torch.tanh, [nan, 1, -1, -1, 1]),
        (torch.erf, [nan, 1, -1, -1, 1]),
        (F.silu, [nan, inf, nan, 0, 100]),
        (F.gelu, [nan, inf, nan, 0, 100]),
        (F.hardswish, [nan, inf, nan, 0, 100]),
    ):
        expected = torch.tensor(wanted, dtype=torch.float32)
        torch.testing.assert_close(
            on_npu(function, x), expected, equal_nan=True, rtol=1e-6, atol=1e-40
        )


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("function", [F.silu, torch.sigmoid, torch.tanh, torch.erf, F.hardswish])
def test_functions_of_short_formats_are_rounded_once(
    function: Callable[..., Tensor], dtype: torch.dtype, cann: Emulator
) -> None:
    x = draw(4000, dtype=dtype)
    exact = function(x.double())
    error = (on_npu(function, x).double() - exact).abs()
    assert (error <= 1.01 * torch.finfo(dtype).eps / 2 * exact.abs() + 1e-7).all()


def test_softmax_subtracts_float16_in_float16(cann: Emulator) -> None:
    x = (draw(50, 33) * 4).half()
    shifted = (x - x.amax(-1, keepdim=True)).double()  # rounded by torch's own subtraction
    exact = shifted.exp() / shifted.exp().sum(-1, keepdim=True)
    found = on_npu(lambda t: t.softmax(-1), x).double()
    assert ((found - exact).abs() <= 2.0**-11 * 1.01 * exact + 2.0**-25).all()
    in_float32 = x.double().softmax(-1)
    assert ((found - in_float32).abs() > 2.0**-11 * 1.01 * in_float32 + 2.0**-25).any()


@pytest.mark.parametrize("dtype", HALF)
def test_layer_norm_rounds_its_statistics_where_all_is_short(
    dtype: torch.dtype, cann: Emulator
) -> None:
    x, weight = (draw(40, 128) + 3).to(dtype), (draw(128, seed=1).abs() + 0.5).to(dtype)

    def formula(*, rounds: bool) -> Tensor:
        keep = (lambda t: t.to(dtype).double()) if rounds else (lambda t: t)
        mean = keep(x.double().mean(-1, keepdim=True))
        rstd = keep(((x.double() - mean).square().mean(-1, keepdim=True) + 1e-5).rsqrt())
        return (x.double() - mean) * rstd * weight.double()

    def store(exact: Tensor) -> Tensor:
        return 1.01 * torch.finfo(dtype).eps / 2 * exact.abs() + 1e-5

    def layer_norm(x: Tensor, weight: Tensor) -> Tensor:
        return F.layer_norm(x, (128,), weight)

    found = on_npu(layer_norm, x, weight).double()
    rounded, plain = formula(rounds=True), formula(rounds=False)
    assert ((found - rounded).abs() <= store(rounded)).all()
    assert ((found - plain).abs() > store(plain)).any()


@pytest.mark.parametrize(("n", "dtype", "rounds"), [
    (1024, torch.bfloat16, False), (768, torch.bfloat16, True), (1024, torch.float16, True),
    (40, torch.float16, False), (48, torch.float16, True),
])  # fmt: skip
def test_some_layer_norms_are_another_kernels(
    n: int, dtype: torch.dtype, rounds: bool, cann: Emulator
) -> None:
    x = (draw(30, n) + 3).to(dtype)
    weight = torch.ones(n, dtype=dtype)
    exact = F.layer_norm(x.double(), (n,))
    error = (on_npu(lambda t, w: F.layer_norm(t, (n,), w), x, weight).double() - exact).abs()
    stored_once = (error <= 1.01 * torch.finfo(dtype).eps / 2 * exact.abs() + 1e-5).all()
    assert bool(stored_once) is not rounds


def test_group_norm_loses_its_variance_off_centre(cann: Emulator) -> None:
    def nrmse(mean: float) -> float:
        x = draw(2, 64, 14, 14) + mean
        exact = F.group_norm(x.double(), 1)
        return float((on_npu(lambda t: F.group_norm(t, 1), x) - exact).square().mean().sqrt())

    assert nrmse(0.0) < 3e-7
    assert nrmse(30.0) > 1e-5, "the mean square less the square of the mean"
    cann.set_kernels("aten")
    assert nrmse(30.0) < 2e-6


def test_group_norm_of_constants_can_be_nan(cann: Emulator) -> None:
    """Which constants depends on the order of the sums."""
    x = torch.linspace(0.5, 300, 600).view(600, 1, 1, 1).expand(600, 4, 7, 7).contiguous()
    found = on_npu(lambda t: F.group_norm(t, 1), x).isnan().flatten(1)
    assert torch.equal(found.any(1), found.all(1)) and 0 < found.all(1).sum() < 300
    cann.set_kernels("aten")
    assert on_npu(lambda t: F.group_norm(t, 1), x).isfinite().all()


def test_means_are_sums_of_scaled_terms(cann: Emulator) -> None:
    x = draw(3, 7, 11)
    assert torch.equal(on_npu(lambda t: t.mean((1, 2)), x), (x * (1 / 77)).sum((1, 2)))
    assert torch.equal(
        on_npu(lambda t: F.adaptive_avg_pool2d(t, 1), x)[:, 0, 0], (x * (1 / 77)).sum((1, 2))
    )


def test_batch_norm_is_one_factor_and_one_summand(cann: Emulator) -> None:
    x, mean, weight, bias = draw(2, 5, 4, 4), draw(5, seed=1), draw(5, seed=2), draw(5, seed=3)
    variance = draw(5, seed=4).square() + 0.1
    factor = weight / (variance + 1e-5).sqrt()

    def batch_norm(x: Tensor, m: Tensor, v: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return F.batch_norm(x, m, v, w, b)

    given = (mean, variance, weight, bias)
    # The image of ones without its summand is the factor, that of zeros the summand.
    zeros, ones = torch.zeros(1, 5, 1, 1), torch.ones(1, 5, 1, 1)
    own_summand = on_npu(batch_norm, zeros, *given)
    none = torch.zeros(5)
    own_factor = on_npu(batch_norm, ones, none, variance, weight, none)
    torch.testing.assert_close(own_factor.flatten(), factor, rtol=2.0**-22, atol=0)
    assert torch.equal(own_summand.flatten(), bias - own_factor.flatten() * mean)
    assert torch.equal(on_npu(batch_norm, x, *given), x * own_factor + own_summand)


def test_average_pools_have_a_factor_in_the_inputs_format(cann: Emulator) -> None:
    x = draw(2, 3, 9, 9) + 2
    pool = {"kernel_size": 3, "stride": 2, "padding": 1}
    for dtype in (torch.float16, torch.bfloat16):
        short = x.to(dtype)
        factor = torch.tensor(1 / 9)
        factor = factor.half().float() if dtype == torch.float16 else factor
        sums = F.avg_pool2d(short.float() * factor, **pool, divisor_override=1)  # type: ignore[arg-type]
        assert torch.equal(on_npu(lambda t: F.avg_pool2d(t, **pool), short), sums.to(dtype))
    # Without padding in the divisor the sum is stored in the format, and divided then.
    short = x.half()
    sums = F.avg_pool2d(short.float(), **pool, divisor_override=1).half()  # type: ignore[arg-type]
    counts = F.avg_pool2d(torch.ones(1, 9, 9), **pool, divisor_override=1)  # type: ignore[arg-type]
    found = on_npu(lambda t: F.avg_pool2d(t, **pool, count_include_pad=False), short)
    assert torch.equal(found, (sums.float() / counts).half())


def test_what_rides_along_in_a_product_is_not_rounded_before(cann: Emulator) -> None:
    a, b = draw(20, 64, dtype=torch.float16), draw(64, 30, seed=1, dtype=torch.float16)
    row = draw(30, seed=2, dtype=torch.float16)
    full = row.expand(20, 30).contiguous()
    exact = a.double() @ b.double() + row.double()
    once = (on_npu(torch.addmm, row, a, b).double() - exact).abs()
    assert (once <= 1.01 * 2.0**-11 * exact.abs() + 1e-6).all()
    product = (a.float() @ b.float()).half()
    assert torch.equal(on_npu(torch.addmm, full, a, b), (product.float() + full.float()).half())
    assert not torch.equal(on_npu(torch.addmm, full, a, b), on_npu(torch.addmm, row, a, b))


def test_hf32_ties_go_as_the_operator_has_them(cann: Emulator) -> None:
    """1 + 2^-12 lies between two numbers of 11 bits: 1 and, away from zero, 1 + 2^-11."""
    settings: Any = torch.npu  # type: ignore[attr-defined]
    tie, one = torch.full((1, 1), 1 + 2.0**-12), torch.ones(1, 1)
    settings.conv.allow_hf32 = settings.matmul.allow_hf32 = True
    try:
        assert on_npu(torch.mm, tie, one).item() == 1 + 2.0**-11
        assert on_npu(torch.bmm, tie[None], one[None]).item() == 1
        assert on_npu(F.conv2d, tie[None, None], one[None, None]).item() == 1
        cann.set_kernels("aten")
        assert on_npu(torch.mm, tie, one).item() == 1
    finally:
        settings.conv.allow_hf32 = settings.matmul.allow_hf32 = False


def test_cube_math_type_4_adds_long_products_up_in_groups(run_script: Callable[..., Any]) -> None:
    """In a process of its own: torch_npu cannot unset the option."""
    found = run_script("""
        from torch_npu.npu import npu_config
        torch.manual_seed(0)
        a, b = torch.randn(4, 5000), torch.randn(5000, 3)
        torch.npu.conv.allow_hf32 = torch.npu.matmul.allow_hf32 = False
        plain = (a.npu() @ b.npu()).cpu()
        torch.npu.matmul.cube_math_type = npu_config._CubeMathType.USE_FP32_ADD
        grouped = (a.npu() @ b.npu()).cpu()
        parts = sum(a[:, i : i + 2048] @ b[i : i + 2048] for i in range(0, 5000, 2048))
        short = (a[:, :2048].npu() @ b[:2048].npu()).cpu()
        answer([torch.equal(grouped, parts), torch.equal(grouped, plain),
                torch.equal(short, a[:, :2048] @ b[:2048])])
    """)
    assert found.answer == [True, False, True]


@pytest.mark.parametrize("dtype", HALF)
def test_attention_rounds_powers_before_they_are_divided(
    dtype: torch.dtype, cann: Emulator
) -> None:
    q, k, v = (draw(1, 2, size, 32, seed=i, dtype=dtype) for i, size in enumerate((17, 40, 40)))
    scores = (q.double() @ k.double().transpose(-1, -2)).float() * 32**-0.5
    powers = (scores - scores.amax(-1, keepdim=True)).exp()
    total = powers.double().sum(-1, keepdim=True)
    exact = (away(powers, dtype).double() @ v.double()) / total
    unrounded = (powers.double() @ v.double()) / total
    found = on_npu(F.scaled_dot_product_attention, q, k, v).double()

    def stored(of: Tensor) -> Tensor:
        return (found - of).abs() <= 1.02 * torch.finfo(dtype).eps / 2 * of.abs() + 1e-6

    # A power whose last bit of float32 decides a rounding may fall on the other side.
    assert stored(exact).double().mean() > 0.99
    assert stored(unrounded).double().mean() < 0.9


def test_attention_over_tiles_of_keys_is_attention(cann: Emulator) -> None:
    q, k, v = (draw(1, 2, size, 16, seed=i) for i, size in enumerate((5, 2500, 2500)))
    mask = torch.rand(5, 2500, generator=torch.Generator().manual_seed(5)) > 0.3
    mask[:, :1024] = False  # no key of the first tile is seen
    exact = F.scaled_dot_product_attention(q.double(), k.double(), v.double(), mask)
    found = on_npu(F.scaled_dot_product_attention, q, k, v, mask)
    assert (found - exact).abs().max() < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
def test_bilinear_resizing_is_two_products(dtype: torch.dtype, cann: Emulator) -> None:
    x = draw(2, 3, 9, 7, dtype=dtype)

    def matrix(size: int, out: int) -> Tensor:
        """What resizing does to unit vectors, in the input's format."""
        rows = torch.eye(size)[:, None]
        whole = F.interpolate(rows, scale_factor=1.7, mode="linear")[:, 0].T
        assert whole.shape == (out, size)
        return whole.to(dtype).double()

    across = (x.double() @ matrix(7, 11).T).to(dtype).double()
    exact = matrix(9, 15) @ across
    found = on_npu(lambda t: F.interpolate(t, scale_factor=1.7, mode="bilinear"), x).double()
    unit = torch.finfo(dtype).eps
    # Weights of float32 by other roads differ by some units of the coordinate.
    close = (found - exact).abs() <= unit / 2 * exact.abs() * 1.02 + 16 * 2.0**-24 * 4
    assert close.double().mean() > 0.97
    if dtype != torch.float32:
        plain = F.interpolate(x.double(), scale_factor=1.7, mode="bilinear")
        once = (found - plain).abs() <= unit / 2 * plain.abs() * 1.02 + 1e-6
        assert once.double().mean() < 0.9


def test_a_mistake_on_top_changes_what_it_concerns_alone(cann: Emulator) -> None:
    x = draw(4, 33)
    mean, silu = on_npu(lambda t: t.mean(-1), x), on_npu(F.silu, x)
    cann.set_kernels("cann+broken/mean_tail")
    assert not torch.equal(on_npu(lambda t: t.mean(-1), x), mean)
    assert torch.equal(on_npu(F.silu, x), silu)
    cann.set_kernels("broken/mean_tail")
    assert not torch.equal(on_npu(F.silu, x), silu)
