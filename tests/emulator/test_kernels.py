"""Other honest kernels: right within the bound of their algorithm, and not the CPU's.

The bound of a float32 sum is that of any order (Higham 2002, eq. 3.5): with n terms and unit
roundoff u its error is at most n u / (1 - n u) times the sum of the terms' absolute values.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.devices import emulator
from harness.devices.emulated_kernels import HONEST

UNIT = 2.0**-24
SUMS = ("sequential", "blocked", "blocked128")


@pytest.fixture
def use(npu: emulator.Emulator) -> Callable[[str], None]:
    return npu.set_kernels


def draw(*shape: int, seed: int = 0, mean: float = 0.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) + mean


def on_npu(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    return function(*(value.npu() for value in tensors)).cpu()


def added_up(terms: Tensor, block: int = 0) -> Tensor:
    """Float32 sum over dimension 0, term by term, by another road than the emulator's."""
    total = torch.zeros_like(terms[0])
    for part in terms.split(block or len(terms)):
        inside = torch.zeros_like(total)
        for term in part:
            inside = inside + term
        total = total + inside
    return total


def conv(**options: int) -> Callable[..., Tensor]:
    return lambda *tensors: F.conv2d(*tensors, **options)  # type: ignore[arg-type]


# Linear in the product of its inputs: the same on absolute values is the sum of absolute terms.
PRODUCTS: dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...], int]] = {
    "mm": (torch.mm, (draw(5, 130), draw(130, 70, seed=1)), 130),
    "mv": (torch.mv, (draw(5, 130), draw(130, seed=1)), 130),
    "addmm": (torch.addmm, (draw(70), draw(5, 130, seed=1), draw(130, 70, seed=2)), 131),
    "bmm": (torch.bmm, (draw(3, 5, 50), draw(3, 50, 40, seed=1)), 50),
    "matmul": (torch.matmul, (draw(2, 3, 5, 50), draw(3, 50, 40, seed=1)), 50),
    "baddbmm": (torch.baddbmm, (draw(3, 5, 9), draw(3, 5, 50), draw(3, 50, 9, seed=1)), 51),
    "linear": (F.linear, (draw(2, 7, 40), draw(33, 40, seed=1), draw(33, seed=2)), 41),
    "conv": (
        conv(stride=2, padding=1),
        (draw(2, 16, 11, 9), draw(24, 16, 3, 3, seed=1), draw(24, seed=2)),
        145,
    ),
    "dilated conv": (conv(dilation=2), (draw(2, 8, 11, 9), draw(9, 8, 3, 3, seed=1)), 72),
    "grouped conv": (
        conv(groups=4, padding=2),
        (draw(2, 16, 7, 7), draw(8, 4, 5, 5, seed=1), draw(8, seed=2)),
        101,
    ),
    "depthwise conv": (conv(groups=16, padding=3), (draw(2, 16, 8, 8), draw(16, 1, 7, 7)), 49),
    "conv1d": (F.conv1d, (draw(2, 16, 30), draw(8, 16, 5, seed=1), draw(8, seed=2)), 81),
    "transposed conv": (
        lambda x, w, b: F.conv_transpose2d(x, w, b, stride=2, padding=1, groups=2),
        (draw(2, 16, 5, 5), draw(16, 4, 4, 4, seed=1), draw(8, seed=2)),
        33,
    ),
    "attention": (torch.matmul, (draw(2, 3, 17, 64), draw(2, 3, 64, 17, seed=1)), 64),
}


@pytest.mark.parametrize("kernels", SUMS)
@pytest.mark.parametrize("name", PRODUCTS)
def test_products_are_sums_of_their_terms(
    name: str, kernels: str, use: Callable[[str], None]
) -> None:
    function, tensors, terms = PRODUCTS[name]
    exact = function(*(value.double() for value in tensors))
    size = function(*(value.double().abs() for value in tensors))
    default = on_npu(function, *tensors)
    use(kernels)
    actual = on_npu(function, *tensors)
    assert ((actual - exact).abs() <= 1.01 * terms * UNIT * size).all()
    assert not torch.equal(actual, default)


@pytest.mark.parametrize(("kernels", "block"), [("sequential", 0), ("blocked", 16)])
def test_terms_of_a_product_are_added_in_their_order(
    kernels: str, block: int, use: Callable[[str], None]
) -> None:
    a, b, bias = draw(5, 50), draw(50, 37, seed=1), draw(37, seed=2)
    products = torch.stack([a[:, [k]] * b[[k]] for k in range(50)])
    use(kernels)
    assert torch.equal(on_npu(torch.mm, a, b), added_up(products, block))
    first = torch.cat([bias.expand(1, 5, 37), products])
    expected = added_up(products, block) + bias if block else added_up(first)
    assert torch.equal(on_npu(torch.addmm, bias, a, b), expected)


@pytest.mark.parametrize(("kernels", "block"), [("sequential", 0), ("blocked", 64)])
def test_terms_of_a_sum_are_added_in_their_order(
    kernels: str, block: int, use: Callable[[str], None]
) -> None:
    x = draw(3, 10, 20)
    use(kernels)
    assert torch.equal(on_npu(lambda t: t.sum((1, 2)), x), added_up(x.flatten(1).T, block))
    assert torch.equal(on_npu(lambda t: t.mean(1), x), added_up(x.transpose(0, 1), block) / 10)


# Function, terms of its longest sum; each has some more roundings after its sums.
OTHERS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "sum": (lambda x: x.sum(-1), 100),
    "mean of all": (lambda x: x.mean(), 3 * 16 * 100),
    "avg_pool": (lambda x: F.avg_pool2d(x.view(3, 16, 10, 10), 3, 2, 1), 9),
    "avg_pool without padding": (
        lambda x: F.avg_pool2d(x.view(3, 16, 10, 10), 3, 2, 1, True, False), 9,
    ),
    "adaptive_avg_pool": (lambda x: F.adaptive_avg_pool2d(x.view(3, 16, 10, 10), 3), 16),
    "global average": (lambda x: F.adaptive_avg_pool2d(x.view(3, 16, 10, 10), 1), 100),
    "softmax": (lambda x: x.softmax(-1), 100),
    "log_softmax": (lambda x: x.log_softmax(1), 16),
    "norm": (lambda x: x.norm(dim=-1), 100),
    "var": (lambda x: x.var(-1), 100),
    "layer_norm": (lambda x: F.layer_norm(x, x.shape[1:]), 1600),
    "group_norm": (lambda x: F.group_norm(x, 4), 400),
    "instance_norm": (lambda x: F.instance_norm(x), 100),
}  # fmt: skip


@pytest.mark.parametrize("kernels", SUMS)
@pytest.mark.parametrize("name", OTHERS)
def test_other_sums_cost_what_a_sum_costs(
    name: str, kernels: str, use: Callable[[str], None]
) -> None:
    function, terms = OTHERS[name]
    x = draw(3, 16, 100)
    exact = function(x.double())
    default = on_npu(function, x)
    use(kernels)
    actual = on_npu(function, x)
    assert actual.shape == exact.shape
    assert (actual - exact).abs().max() <= (terms + 10) * UNIT * max(1.0, x.abs().max().item())
    # The CPU's pools add one after another as well.
    assert "pool" in name or name == "global average" or not torch.equal(actual, default)


@pytest.mark.parametrize("kernels", HONEST)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_formats_are_rounded_once(
    kernels: str, dtype: torch.dtype, use: Callable[[str], None]
) -> None:
    """Half a unit of the format, and float32's own error, which is far smaller."""
    use(kernels)
    weight = draw(64, seed=1).to(dtype)
    for function in (
        lambda x: x @ x.transpose(1, 2),
        lambda x: F.layer_norm(x, (64,), weight.to(x), weight.to(x)),
        lambda x: x.softmax(-1),
        torch.sigmoid,
        lambda x: x.mean(-1),
    ):
        x = draw(2, 40, 64).to(dtype)
        exact = function(x.double())
        error = (on_npu(function, x).double() - exact).abs()
        unit = torch.finfo(dtype).eps / 2
        assert (error <= 1.02 * unit * exact.abs() + 1e-6 + torch.finfo(dtype).tiny).all()


def test_the_cpus_kernels_come_back(npu: emulator.Emulator) -> None:
    a, b = draw(5, 130), draw(130, 70, seed=1)
    default = on_npu(torch.mm, a, b)
    npu.set_kernels("sequential")
    assert npu.kernels == "sequential"
    npu.set_kernels("aten")
    assert torch.equal(on_npu(torch.mm, a, b), default)


def test_unknown_kernels_are_refused(npu: emulator.Emulator) -> None:
    with pytest.raises(ValueError, match="no kernels are called 'squential'"):
        npu.set_kernels("squential")
    assert npu.kernels == "aten"


# Output points of a tile -> B^T, G, A^T of Lavin and Gray (2015), in rows.
TABLES = {
    2: (
        [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
        [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
        [[1, 1, 1, 0], [0, 1, -1, -1]],
    ),
    4: (
        [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
         [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]],
        [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6],
         [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]],
        [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    ),
}  # fmt: skip


def winograd(x: Tensor, w: Tensor, m: int, *, absolute: bool) -> Tensor:
    """A valid convolution of an input of whole tiles, or the sum of its absolute terms."""
    tables = [torch.tensor(table, dtype=torch.float64) for table in TABLES[m]]
    if absolute:
        x, w, tables = x.abs(), w.abs(), [table.abs() for table in tables]
    tiles = x.unfold(2, m + 2, m).unfold(3, m + 2, m)
    inner = [
        torch.einsum("ij,...jk,lk->...il", t, v, t)
        for t, v in zip(tables[:2], (tiles, w), strict=True)
    ]
    product = torch.einsum("nchwij,ocij->nohwij", *inner)
    result = torch.einsum("ij,nohwjk,lk->nohwil", tables[2], product, tables[2])
    n, o, h, width = result.shape[:4]
    return result.transpose(3, 4).reshape(n, o, h * m, width * m)


@pytest.mark.parametrize(("kernels", "tile"), [("winograd2", 2), ("winograd4", 4)])
@pytest.mark.parametrize("bias", [False, True])
def test_winograd_errs_by_the_roundings_of_its_transforms(
    kernels: str, tile: int, bias: bool, use: Callable[[str], None]
) -> None:
    """Every path from an input to an output has so many roundings: 32 channels, six transforms."""
    x, w = draw(2, 32, 11, 14), draw(24, 32, 3, 3, seed=1)
    b = (draw(24, seed=2),) if bias else ()
    padded = F.pad(x.double(), (1, 1 + -14 % tile, 1, 1 + -11 % tile))
    assert torch.allclose(
        winograd(padded, w.double(), tile, absolute=False)[:, :, :11, :14],
        F.conv2d(x.double(), w.double(), padding=1),
    )
    size = winograd(padded, w.double(), tile, absolute=True)[:, :, :11, :14]
    exact = F.conv2d(x.double(), w.double(), *(value.double() for value in b), padding=1)
    direct = on_npu(conv(padding=1), x, w, *b)
    use(kernels)
    actual = on_npu(conv(padding=1), x, w, *b)
    assert ((actual - exact).abs() <= (32 + 6 * 6 + 1) * UNIT * (size + 3)).all()
    assert not torch.equal(actual, direct)
    if tile == 4:  # far more than a direct sum, and far less than its bound
        error, of_direct = ((value - exact).square().mean().sqrt() for value in (actual, direct))
        assert 2 * of_direct < error < 100 * of_direct


@pytest.mark.parametrize("kernels", ["winograd2", "winograd4"])
def test_winograd_leaves_other_convolutions_alone(kernels: str, use: Callable[[str], None]) -> None:
    x = draw(2, 4, 11, 14)
    for w, options in (
        (draw(6, 4, 3, 3), {"stride": 2}),
        (draw(6, 4, 3, 3), {"dilation": 2}),
        (draw(4, 1, 3, 3), {"groups": 4}),
        (draw(6, 4, 1, 3), {}),
    ):
        use("aten")
        same = on_npu(conv(**options), x, w)
        use(kernels)
        assert torch.equal(on_npu(conv(**options), x, w), same)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    name: getattr(torch, name)
    for name in "exp log tanh erf sigmoid sin cos sqrt rsqrt reciprocal".split()
} | {
    "silu": F.silu,
    "mish": F.mish,
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
    "elu": F.elu,
    "pow": lambda x: x.abs() ** 1.7,
    "div": lambda x: x / (x.abs() + 1),
    "div by a number": lambda x: x / 3,
}  # fmt: skip
ARGUMENT = draw(5000).abs() * 2 + 0.1


def units_off(actual: Tensor, expected: Tensor) -> Tensor:
    return (actual.view(torch.int32) - expected.view(torch.int32)).abs()


@pytest.mark.parametrize(("kernels", "ulps"), [("ulp2", 2), ("ulp4", 4)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_off_by_so_many_units_and_no_more(
    name: str, kernels: str, ulps: int, use: Callable[[str], None]
) -> None:
    default = on_npu(FUNCTIONS[name], ARGUMENT)
    use(kernels)
    actual = on_npu(FUNCTIONS[name], ARGUMENT)
    off = units_off(actual, default)
    assert off.max() == ulps
    # Uniform over -ulps .. ulps.
    assert (off == 0).double().mean() == pytest.approx(1 / (2 * ulps + 1), abs=0.2)
    assert torch.equal(on_npu(FUNCTIONS[name], ARGUMENT), actual), "the same again"


@pytest.mark.parametrize("kernels", ["ulp2", "ulp4"])
def test_exact_operators_stay_exact_and_special_values_too(
    kernels: str, use: Callable[[str], None]
) -> None:
    x = draw(1000)
    for function in (torch.relu, F.hardswish, torch.neg, lambda t: t * 3, lambda t: t + t):
        use("aten")
        default = on_npu(function, x)
        use(kernels)
        assert torch.equal(on_npu(function, x), default)
    special = torch.tensor([0.0, -0.0, float("inf"), float("-inf"), 20.0, -20.0])
    assert on_npu(torch.tanh, special).abs().max() <= 1
    assert on_npu(torch.exp, special)[:4].tolist()[2:] == [float("inf"), 0.0]
    assert on_npu(torch.sqrt, torch.zeros(1)).item() == 0
    assert on_npu(torch.exp, torch.tensor([float("nan")])).isnan().all()


NORMS: dict[str, Callable[..., Tensor]] = {
    "layer_norm": lambda x, w, b: F.layer_norm(x, (40,), w[:40], b[:40]),
    "group_norm": lambda x, w, b: F.group_norm(x, 4, w[:16], b[:16]),
    "instance_norm": lambda x, w, b: F.instance_norm(x, weight=w[:16], bias=b[:16]),
    "batch_norm": lambda x, w, b: F.batch_norm(x, b[:16], w[:16] + 0.5, w[:16], b[:16]),
}


@pytest.mark.parametrize("kernels", ["normalisation", "ulp2", "ulp4"])
@pytest.mark.parametrize("mean", [0.0, 100.0])
@pytest.mark.parametrize("name", NORMS)
def test_normalisations_cost_a_few_roundings_of_their_input(
    name: str, mean: float, kernels: str, use: Callable[[str], None]
) -> None:
    """A mean beside the deviation makes the input itself uncertain by half a unit of the mean."""
    x, weight, bias = draw(3, 16, 40, mean=mean), draw(40, seed=1).abs(), draw(40, seed=2)
    exact = NORMS[name](x.double(), weight.double(), bias.double())
    default = on_npu(NORMS[name], x, weight, bias)
    use(kernels)
    actual = on_npu(NORMS[name], x, weight, bias)
    assert (actual - exact).abs().max() <= 8 * UNIT * (x.abs().max() * weight.max() + 10)
    assert not torch.equal(actual, default)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kernels", ["attention", "sequential", "blocked", "ulp4"])
def test_attention_of_several_tiles(kernels: str, masked: bool, use: Callable[[str], None]) -> None:
    q, k, v = (draw(2, 3, size, 32, seed=i) for i, size in enumerate((17, 300, 300)))
    q = q * 3  # the maximum moves from tile to tile
    mask = torch.rand(17, 300, generator=torch.Generator().manual_seed(5)) > 0.3
    if masked:
        mask[:, :128] = False  # no key of the first tile is seen
    given = (mask,) if masked else ()
    exact = F.scaled_dot_product_attention(q.double(), k.double(), v.double(), *given)
    default = on_npu(F.scaled_dot_product_attention, q, k, v, *given)
    use(kernels)
    actual = on_npu(F.scaled_dot_product_attention, q, k, v, *given)
    assert (actual - exact).abs().max() < 300 * UNIT * v.abs().max()
    assert not torch.equal(actual, default)
