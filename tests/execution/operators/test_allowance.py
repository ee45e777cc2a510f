"""Honest kernels of other kinds stay within a call's allowance; dishonest ones do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from harness.devices.cpu import CpuDevice
from harness.execution.operators import allowance, sums, trace
from harness.execution.operators.calls import Call, results, run_oracle
from harness.execution.operators.comparison import rounding_of
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.operator_error import OwnError, misrounding, own_error
from harness.judgement.operator_rows import (
    RATIO_LIMIT,
    SLICE_RATIO_LIMIT,
    OperatorRow,
    culprits,
)

aten = torch.ops.aten


def judged(call: Call, got: Tensor) -> OwnError:
    """A result's error against float64, in units of what the call may cost."""
    (oracle,) = run_oracle(call, Arithmetic())
    (inner,) = allowance.inner(call, [oracle])
    exact = oracle.numpy()
    rounding = rounding_of(call, oracle, Arithmetic())
    return own_error(exact, exact, got.numpy(), rounding, inner=inner.numpy())


def within(call: Call, got: Tensor) -> bool:
    error = judged(call, got)
    return error.ratio <= RATIO_LIMIT and error.worst_slice_ratio <= SLICE_RATIO_LIMIT


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def one_by_one(x: Tensor, w: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """x [M, K] @ w [K, N], summed up in order, every partial sum rounded to `dtype`."""
    total = torch.zeros(x.shape[0], w.shape[1], dtype=dtype)
    for k in range(x.shape[1]):
        total = total + (x[:, k : k + 1] * w[k]).to(dtype)
    return total.float()


def cancelling_head() -> tuple[Tensor, Tensor, Tensor]:
    """A classifier whose bias cancels what its mean feature gives, a hundred times the rest."""
    features = 1 + 0.02 * randn(6, 700)
    weight = randn(700, 1000, seed=1)
    return features, weight, -(features.mean(0) @ weight)


def test_a_sum_that_cancels_is_judged_by_its_terms():
    features, weight, bias = cancelling_head()
    call = Call(aten.addmm.default, (bias, features, weight), {})
    got = one_by_one(features, weight) + bias
    assert got.square().mean().sqrt() < (features @ weight).square().mean().sqrt() / 20
    assert within(call, got)
    exact = (features.double() @ weight.double() + bias).numpy()
    by_result = own_error(exact, exact, got.numpy(), rounding_of(call, got, Arithmetic()))
    assert by_result.ratio > RATIO_LIMIT, "by its result alone it would be accused"


@pytest.mark.parametrize("terms", [64, 576, 4608])
def test_sums_in_float16_are_not_allowed(terms):
    x, w = randn(32, terms), randn(terms, 48, seed=1)
    call = Call(aten.mm.default, (x, w), {})
    assert within(call, one_by_one(x, w))
    assert judged(call, one_by_one(x, w, torch.float16)).ratio > 100


# F(2x2, 3x3) and F(4x4, 3x3), Lavin and Gray, arXiv:1509.09308.
WINOGRAD = {
    2: (
        [[1, 1, 1, 0], [0, 1, -1, -1]],
        [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
        [[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]],
    ),
    4: (
        [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
        [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
         [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]],
        [[1 / 4, 0, 0], [-1 / 6] * 3, [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6],
         [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]],
    ),
}  # fmt: skip


def winograd(x: Tensor, w: Tensor, tile: int) -> Tensor:
    """x [N, C, H, W] * w [K, C, 3, 3] without padding; H - 2 and W - 2 are multiples of `tile`."""
    a, b, g = (torch.tensor(matrix, dtype=torch.float32) for matrix in WINOGRAD[tile])
    weights = g @ w @ g.T
    patches = x.unfold(2, tile + 2, tile).unfold(3, tile + 2, tile)
    moved = b @ patches @ b.T
    total = torch.zeros(x.shape[0], w.shape[0], *moved.shape[2:])
    for channel in range(x.shape[1]):
        total = total + weights[None, :, channel, None, None] * moved[:, None, channel]
    tiles = a @ total @ a.T
    return tiles.transpose(3, 4).flatten(4, 5).flatten(2, 3)


@pytest.mark.parametrize("tile", [2, 4])
@pytest.mark.parametrize("channels", [3, 16, 128])
@pytest.mark.parametrize("kind", ["normal", "relu", "one bright corner"])
def test_winograd_is_honest(tile, channels, kind):
    x = randn(2, channels, 18, 18)
    if kind == "relu":
        x = x.relu()
    if kind == "one bright corner":
        x[:, :, 6:, 6:] *= 1e-3
    w = randn(24, channels, 3, 3, seed=1)
    call = Call(
        aten.convolution.default, (x, w, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1), {}
    )
    got = winograd(x, w, tile)
    torch.testing.assert_close(got, functional.conv2d(x, w), rtol=1e-3, atol=1e-2)
    assert within(call, got)
    assert not within(call, got * (1 + 1e-3))


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Sums one by one, scale and shift folded."""
    n = x.shape[-1]
    mean = one_by_one(x, torch.full((n, 1), 1 / n))
    variance = one_by_one((x - mean) ** 2, torch.full((n, 1), 1 / n))
    scale = torch.rsqrt(variance + 1e-5) * weight
    return x * scale + (bias - mean * scale)


@pytest.mark.parametrize("offset", [0.0, 3.0, 30.0])
def test_a_normalisation_is_judged_by_its_sums(offset):
    x, weight, bias = randn(64, 384) + offset, randn(384, seed=1), randn(384, seed=2)
    call = Call(aten.native_layer_norm.default, (x, [384], weight, bias, 1e-5), {})
    assert within(call, layer_norm(x, weight, bias))
    assert not within(call, functional.layer_norm(x, [384], weight, bias, 1e-3))
    halved = functional.layer_norm(x.half().float(), [384], weight, bias)
    assert not within(call, halved)


def test_a_normalisation_over_groups_of_many_elements():
    x = 0.3 + randn(2, 8, 158, 158)
    weight, bias = randn(8, seed=1), randn(8, seed=2)
    call = Call(aten.native_group_norm.default, (x, weight, bias, 2, 8, 158 * 158, 2, 1e-5), {})
    got = layer_norm(x.reshape(4, -1), torch.ones(()), torch.zeros(()))
    got = got.reshape(x.shape) * weight[:, None, None] + bias[:, None, None]
    assert within(call, got)
    assert not within(call, got + 1e-3 * (torch.arange(8) == 3)[:, None, None])


def test_batch_norm_folded():
    x, mean = 20 + randn(2, 16, 9, 9), 20 + randn(16, seed=1)
    variance, weight, bias = randn(16, seed=2) ** 2 + 0.1, randn(16, seed=3), randn(16, seed=4)
    call = Call(
        aten.native_batch_norm.default, (x, weight, bias, mean, variance, False, 0.1, 1e-5), {}
    )
    scale = weight / torch.sqrt(variance + 1e-5)
    got = x * scale[:, None, None] + (bias - mean * scale)[:, None, None]
    assert within(call, got)
    assert not within(call, got + 1e-4)


def test_softmax_and_attention():
    x = 12 * randn(8, 4, 50, 64)
    call = Call(aten._softmax.default, (x, -1, False), {})
    shifted = (x - x.amax(-1, keepdim=True)) * 1.4426950408889634
    power = torch.exp2(shifted)
    total = one_by_one(power.reshape(-1, 64), torch.ones(64, 1)).reshape(8, 4, 50, 1)
    assert within(call, power / total)
    assert not within(call, power / total.half().float())

    q, k, v = (2 * randn(2, 3, 70, 32, seed=seed) for seed in range(3))
    whole = Call(aten.scaled_dot_product_attention.default, (q, k, v), {})
    scores = torch.stack([
        torch.stack([one_by_one(q[n, h] * 32**-0.5, k[n, h].T) for h in range(3)]) for n in range(2)
    ])  # fmt: skip
    weights = torch.exp(scores - scores.amax(-1, keepdim=True))
    got = (weights @ v) / weights.sum(-1, keepdim=True)
    assert within(whole, got)
    assert not within(whole, functional.scaled_dot_product_attention(q, k.half().float(), v))
    assert not within(whole, got * (1 + 1e-3))


@pytest.mark.parametrize("more", [{}, {"is_causal": True}, {"mask": True}, {"groups": True}])
def test_attention_with_masks_and_shared_heads(more):
    q, k, v = (2 * randn(2, 4, 20, 16, seed=seed) for seed in range(3))
    kwargs: dict = {}
    args = (q, k, v, None, 0.0, "is_causal" in more)
    if "mask" in more:
        args = (q, k, v, randn(2, 1, 20, 20, seed=5) > -1, 0.0, False)
    if "groups" in more:
        args = (q, k[:, :2], v[:, :2], None, 0.0, False)
        kwargs = {"enable_gqa": True}
    call = Call(aten.scaled_dot_product_attention.default, args, kwargs)
    # The scores one unit in the last place of the query off, which is as honest.
    got = call.func(args[0] * (1 + 2**-23), *args[1:], **kwargs)
    assert within(call, got)
    assert not within(call, call.func(args[0].half().float(), *args[1:], **kwargs))


def test_nearly_uniform_attention_does_not_excuse_scores_in_half():
    q, k = (0.3 * randn(2, 4, 100, 32, seed=seed) for seed in range(2))
    v = randn(2, 4, 100, 32, seed=2)
    call = Call(aten.scaled_dot_product_attention.default, (q, k, v), {})
    scores = (q @ k.transpose(-1, -2) * 32**-0.5).half().float()
    assert not within(call, torch.softmax(scores, -1) @ v)
    assert within(call, torch.softmax(q * 32**-0.5 @ k.transpose(-1, -2), -1) @ v)


def bent(x: Tensor, units: int) -> Tensor:
    """Every number off by up to `units` in its last place."""
    ulp = torch.nextafter(x.abs(), torch.tensor(torch.inf)) - x.abs()
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(9)) * 2 - 1
    return x + (noise * units).round() * ulp


@pytest.mark.parametrize("function", ["exp", "tanh", "erf", "sigmoid", "gelu", "silu", "rsqrt"])
def test_functions_have_four_units_in_the_last_place(function):
    x = 2 * randn(8, 300)
    x = x.abs() if function == "rsqrt" else x
    call = Call(getattr(aten, function).default, (x,), {})
    exact = results(call, call.func(x.double()))[0].float()
    assert within(call, bent(exact, 4))
    assert not within(call, bent(exact, 100))


def test_functions_are_absolute_where_they_go_through_zero():
    x = 0.01 * randn(8, 300)
    call = Call(aten.tanh.default, (x,), {})
    doubled = torch.exp(2 * x)
    assert within(call, (doubled - 1) / (doubled + 1))
    assert not within(call, x), "a tanh without its curve"


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_resampling_has_the_rounding_of_its_coordinates(mode):
    x = randn(2, 5, 37, 37)
    func = getattr(aten, f"upsample_{mode}2d").default
    call = Call(func, (x, [64, 64], False), {})
    honest = func(x, [64, 64], False)
    # All coordinates off by one unit in the last place of the size.
    moved = func(x.double(), [64, 64], False, 64 / 37 * (1 + 2**-24), 64 / 37 * (1 + 2**-24))
    assert within(call, honest) and within(call, moved.float())
    assert not within(call, func(x, [64, 64], True))


def mean_of(x: Tensor) -> Tensor:
    return one_by_one(x, torch.full((x.shape[1], 1), 1 / x.shape[1]))[:, 0]


@pytest.mark.parametrize(
    ("call", "got"),
    [
        (lambda x: Call(aten.mean.dim, (x, [1]), {}), mean_of),
        (lambda x: Call(aten.sum.dim_IntList, (x, [1]), {}), lambda x: mean_of(x) * x.shape[1]),
        (lambda x: Call(aten.var.correction, (x, [1]), {"correction": 0}),
         lambda x: mean_of((x - mean_of(x)[:, None]) ** 2)),
    ],
    ids=["mean", "sum", "var"],
)  # fmt: skip
def test_reductions_of_both_signs(
    call: Callable[[Tensor], Call], got: Callable[[Tensor], Tensor]
) -> None:
    x = randn(40, 2000)
    x = x - x.mean(1, keepdim=True)
    assert within(call(x), got(x))
    assert not within(call(x), got(x.half().float()))


def half(call: Call, got: Tensor, dtype: torch.dtype) -> float:
    """Misrounding of a result that was stored in a short format, by the call's own terms."""
    arithmetic = Arithmetic(str(dtype).removeprefix("torch."))
    (oracle,) = run_oracle(call, arithmetic)
    (inner,) = allowance.inner(call, [oracle])
    stored = got.to(dtype)
    assert allowance.rounds_once(call, stored)
    rounding = rounding_of(call, oracle, arithmetic)
    exact = oracle.to(dtype).double().numpy()
    return misrounding(exact, stored.double().numpy(), inner.numpy(), rounding)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_what_a_short_format_hides_shows_where_results_are_rounded_once(dtype):
    x, w = randn(64, 500).to(dtype).float(), randn(500, 80, seed=1).to(dtype).float()
    product = Call(aten.mm.default, (x, w), {})
    assert half(product, one_by_one(x, w), dtype) < RATIO_LIMIT
    assert half(product, one_by_one(x, w, torch.float16), dtype) > RATIO_LIMIT
    cubic = Call(aten.gelu.default, (x,), {"approximate": "tanh"})
    wrong = 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.046 * x**3)))
    assert half(cubic, bent(functional.gelu(x, approximate="tanh"), 4), dtype) < RATIO_LIMIT
    assert half(cubic, wrong, dtype) > RATIO_LIMIT
    # A single number on the other side, and numbers below the format's normal range, are chance.
    off = functional.gelu(x, approximate="tanh").to(dtype)
    off[0, 0] = torch.nextafter(off[0, 0].float(), torch.tensor(9.0)).to(dtype)
    assert half(cubic, off.float(), dtype) < RATIO_LIMIT


def test_what_is_rounded_more_than_once_is_not_held_to_the_nearest_number():
    x = randn(4, 8)
    layer = Call(aten.native_layer_norm.default, (x, [8], None, None, 1e-5), {})
    assert not allowance.rounds_once(layer, x.half())
    scaled = Call(aten.addmm.default, (randn(8), x, randn(8, 8)), {"alpha": 0.5})
    assert not allowance.rounds_once(scaled, x.half())
    assert not allowance.rounds_once(Call(aten.mm.default, (x, x.T), {}), x)  # float32


def test_moves_are_held_to_every_bit():
    x = randn(4, 9)
    call = Call(aten.cat.default, ([x, x],), {})
    assert judged(call, torch.cat([x, x])).ratio == 0
    off = torch.cat([x, x])
    off[3, 3] = torch.nextafter(off[3, 3], torch.tensor(9.0))
    assert judged(call, off).ratio == float("inf")


def test_terms_beyond_the_range_of_float32_do_not_excuse_anything():
    x, w = 1e25 * randn(8, 16), randn(16, 8, seed=1)
    call = Call(aten.mm.default, (x, w), {})
    assert within(call, one_by_one(x, w))
    assert not within(call, one_by_one(x, w) * 1.001)


def compared_off(form: Callable[[Tensor], Tensor], x: Tensor, factor: float) -> OperatorRow:
    """The last comparable call of a form on a device whose results are off by a factor."""

    class Form(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            """Any."""
            return form(x)

    class Off(CpuDevice):
        def operator(self, func):  # type: ignore[no-untyped-def]
            return lambda *args, **kwargs: func(*args, **kwargs) * factor

    rows = [row for row in trace.check(Form(), x, Off(), Arithmetic()) if not row.skipped]
    return rows[-1]


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x @ torch.ones(12),
        lambda x: torch.dot(x[0], x[1]),
        lambda x: torch.addmv(torch.ones(6), x, torch.ones(12)),
        lambda x: torch.addbmm(torch.ones(6, 6), x[None], x.T[None]),
        lambda x: functional.scaled_dot_product_attention(x[None], x[None], x[None]),
        lambda x: functional.scaled_dot_product_attention(
            x[None, None].expand(2, 3, -1, -1), x[None, None], x[None, None]
        ),
        lambda x: functional.scaled_dot_product_attention(
            x.expand(1, 4, 6, 12), x.expand(1, 2, 6, 12), x.expand(1, 2, 6, 12), enable_gqa=True
        ),
        lambda x: torch.softmax(x.sum(), 0),
    ],
)
def test_no_form_of_a_call_is_left_out_because_its_rule_does_not_know_it(form):
    x = randn(6, 12)
    assert not culprits([compared_off(form, x, 1.0)])
    wrong = compared_off(form, x, 1.1)
    assert culprits([wrong]) and wrong.ratio > 100


def test_what_a_format_cannot_hold_is_no_fault_of_the_device():
    class Steep(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            """Overflows float16 in some places."""
            return 1 / (1 + torch.exp(x * 30))

    rows = trace.check(Steep(), randn(4, 64), CpuDevice(), Arithmetic("float16"))
    assert not culprits(rows) and any(row.operator == "aten::exp.default" for row in rows)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_choices_that_a_rounding_decides_are_not_compared_in_short_formats(dtype):
    class Chooses(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            """A threshold that the format cannot hold."""
            return x * (x > 0.3) * torch.fmod(x, 0.3)

    x = torch.cat([torch.full((2, 8), 0.3), randn(2, 8)])
    rows = trace.check(Chooses(), x, CpuDevice(), Arithmetic(dtype))
    assert not culprits(rows)
    assert {row.skipped for row in rows} == {"", "a choice that the rounding of its format decides"}
    assert not any(row.skipped for row in trace.check(Chooses(), x, CpuDevice(), Arithmetic()))


def test_the_absolute_value_of_a_complex_number_is_no_move():
    z = torch.complex(randn(4, 9), randn(4, 9, seed=1))
    call = Call(aten.abs.default, (z,), {})
    assert not allowance.moves(call)
    assert within(call, torch.sqrt(z.real**2 + z.imag**2))


def test_one_side_is_looked_for_only_where_roundings_are_each_elements_own():
    """Winograd's F(4x4), an honest kernel, leans by the constants of its transforms."""
    x, square = torch.ones(2, 4, 8, 8), torch.ones(8, 8)
    conv = aten.convolution.default

    def convolved(size: int, stride: int) -> Call:
        steps = [stride, stride], [0, 0], [1, 1], False, [0, 0], 1
        return Call(conv, (x, torch.ones(4, 4, size, size), None, *steps), {})

    assert sums.shared_roundings(convolved(3, 1)) is None
    assert sums.shared_roundings(convolved(3, 2)) == sums.shared_roundings(convolved(1, 1)) == 1
    mm, addmm = aten.mm.default, aten.addmm.default
    assert sums.shared_roundings(Call(mm, (square, square), {})) == 1
    assert sums.shared_roundings(Call(mm, (square, square[:1].expand(8, 8)), {})) is None
    assert sums.shared_roundings(Call(addmm, (square, square, square), {"alpha": 3})) == 2
    assert sums.shared_roundings(Call(aten.mean.dim, (x, [2, 3]), {})) == 2
    assert sums.shared_roundings(Call(aten.relu.default, (x,), {})) is None
