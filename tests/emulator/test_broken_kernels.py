"""Every broken kernel is wrong, in its own operators only, and the table says which there are."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.devices import emulator
from harness.devices.broken_kernels import BROKEN
from harness.devices.emulator.build import SOURCES

Probe = Callable[[Tensor], Tensor]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def to(x: Tensor, *shape: int, seed: int = 0) -> Tensor:
    return draw(*shape, seed=seed).to(x)


def conv(*weight: int, bias: bool = False, **options: int) -> Probe:
    def probe(x: Tensor) -> Tensor:
        b = to(x, weight[0], seed=2) if bias else None
        return F.conv2d(x, to(x, *weight, seed=1), b, **options)  # type: ignore[arg-type]

    return probe


def attention(x: Tensor, mask: Tensor | None = None) -> Tensor:
    q, k, v = (to(x, 1, 2, 100, 32, seed=i) for i in range(3))
    return F.scaled_dot_product_attention(q * 2, k, v, mask)


IMAGES = (6, 20, 21, 21)
# The aten operator, the shape of the input, and what is done to it.
PROBES: list[tuple[str, tuple[int, ...], Probe]] = [
    ("mm", (37, 70), lambda x: x @ to(x, 70, 100, seed=1)),
    ("bmm", (3, 5, 70), lambda x: x @ to(x, 3, 70, 40, seed=1)),
    ("addmm", (5, 64), lambda x: F.linear(x, to(x, 100, 64, seed=1), to(x, 100, seed=2))),
    ("convolution", IMAGES, conv(40, 20, 3, 3, padding=1)),
    ("convolution", IMAGES, conv(40, 20, 3, 3, bias=True, dilation=2, padding=2)),
    ("convolution", IMAGES, conv(20, 20, 1, 1, bias=True)),
    ("convolution", IMAGES, conv(20, 1, 7, 7, groups=20, stride=2)),
    ("convolution", IMAGES, conv(20, 5, 3, 3, groups=4)),
    ("convolution", IMAGES, lambda x: F.conv_transpose2d(x, to(x, 20, 8, 2, 2, seed=1), stride=2)),
    ("mean", IMAGES, lambda x: x.mean((2, 3))),
    ("sum", (6, 50), lambda x: x.sum(1)),
    ("linalg_vector_norm", (6, 50), lambda x: x.norm(dim=1)),
    ("var", (6, 50), lambda x: x.var(1)),
    ("avg_pool2d", IMAGES, lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)),
    ("adaptive_avg_pool2d", IMAGES, lambda x: F.adaptive_avg_pool2d(x, 3)),
    ("max_pool2d", IMAGES, lambda x: F.max_pool2d(x - 5, 3, 2, 1)),
    ("softmax", (3, 50, 50), lambda x: x.softmax(-1)),
    ("native_layer_norm", (3, 50, 40),
     lambda x: F.layer_norm(x, (40,), to(x, 40, seed=1), to(x, 40, seed=2))),
    ("native_group_norm", IMAGES,
     lambda x: F.group_norm(x, 4, to(x, 20, seed=1), to(x, 20, seed=2))),
    ("native_batch_norm", IMAGES,
     lambda x: F.batch_norm(x, to(x, 20, seed=1), to(x, 20, seed=2).abs(), to(x, 20, seed=3))),
    ("scaled_dot_product_attention", (1,), attention),
    ("scaled_dot_product_attention", (1,), lambda x: attention(x, to(x, 100, 100) > 0)),
    ("gelu", (5000,), lambda x: F.gelu(x * 3)),
    ("sigmoid", (5000,), lambda x: torch.sigmoid(x * 3)),
    ("silu", (5000,), lambda x: F.silu(x * 4)),
    ("tanh", (5000,), torch.tanh),
    ("hardswish", (5000,), F.hardswish),
    ("hardsigmoid", (5000,), F.hardsigmoid),
    ("hardtanh", (5000,), lambda x: F.relu6(x * 4)),
    ("relu", IMAGES, F.relu),
    ("exp", (5000,), torch.exp),
    ("erf", (5000,), torch.erf),
    ("sqrt", (5000,), lambda x: torch.sqrt(x.abs())),
    ("rsqrt", (5000,), lambda x: torch.rsqrt(x.abs() + 1)),
    ("sin", (5000,), torch.sin),
    ("add", (6, 50, 50), lambda x: x + to(x, 6, 50, 50, seed=1)),
    ("add", (6, 50, 50), lambda x: x + to(x, 50, 50, seed=1)),
    ("add", (6, 4, 50, 50), lambda x: x + to(x, 6, 1, 50, 50, seed=1)),
    ("mul", IMAGES, lambda x: x * to(x, 6, 20, 1, 1, seed=1)),
    ("div", (6, 50), lambda x: x / to(x, 6, 50, seed=1)),
    ("index", (30, 5), lambda x: x[torch.arange(1, 25).to(x.device)]),
    ("cat", (3, 5), lambda x: torch.cat([x, x * 2, x * 3])),
    ("roll", (3, 9), lambda x: x.roll(3, 1)),
    ("constant_pad_nd", (3, 9), lambda x: F.pad(x, (0, 2))),
    ("reflection_pad2d", IMAGES, lambda x: F.pad(x, (2, 2, 2, 2), mode="reflect")),
    ("clone", (3, 20, 5), lambda x: x.transpose(1, 2).contiguous()),
    ("upsample_bilinear2d", IMAGES,
     lambda x: F.interpolate(x, (40, 30), mode="bilinear")),
    ("upsample_bicubic2d", IMAGES, lambda x: F.interpolate(x, (40, 30), mode="bicubic")),
]  # fmt: skip
HALF: list[tuple[str, tuple[int, ...], Probe]] = [
    ("mul", (5000,), lambda x: x * 1.1),
    ("mul", (5000,), lambda x: x * 1e-5),
    ("mul", (5000,), lambda x: x * 6e4),
]


@pytest.fixture
def use(npu: emulator.Emulator) -> Callable[[str], None]:
    return npu.set_kernels


def results(probes: list[tuple[str, tuple[int, ...], Probe]], dtype: torch.dtype) -> list[Tensor]:
    # What is drawn and sent is made by the default kernels as well: nothing computes there.
    return [probe(draw(*shape).to(dtype).npu()).cpu() for _, shape, probe in probes]


@pytest.fixture(scope="module")
def right(loaded_npu: emulator.Emulator) -> tuple[list[Tensor], list[Tensor]]:
    loaded_npu.set_kernels("aten")
    return results(PROBES, torch.float32), results(HALF, torch.float16)


def test_hf32_factors_that_are_cut_off_are_so_where_hf32_is_allowed(
    use: Callable[[str], None],
) -> None:
    use("broken/hf32_truncated")
    left, right = draw(20, 30), draw(30, 40, seed=1)
    cut = [(x.view(torch.int32) & ~0xFFF).view(torch.float32) for x in (left, right)]
    plain = (left.npu() @ right.npu()).cpu()
    assert torch.equal(plain, left @ right)
    torch.npu.matmul.allow_hf32 = True
    try:
        assert torch.equal((left.npu() @ right.npu()).cpu(), cut[0] @ cut[1])
    finally:
        torch.npu.matmul.allow_hf32 = False


@pytest.mark.parametrize("name", sorted(BROKEN.keys() - {"hf32_truncated"}))
def test_a_broken_kernel_is_wrong_in_its_own_operators_alone(
    name: str, use: Callable[[str], None], right: tuple[list[Tensor], list[Tensor]]
) -> None:
    broken = BROKEN[name]
    use("broken/" + name)
    wrong = results(PROBES, torch.float32), results(HALF, torch.float16)
    changed = [
        (operator, torch.equal(one.isfinite(), other.isfinite()))
        for probes, ours, theirs in zip((PROBES, HALF), right, wrong, strict=True)
        for (operator, *_), one, other in zip(probes, ours, theirs, strict=True)
        if not torch.equal(one, other)
    ]
    assert changed, broken.what
    if broken.operators == ("*",):
        assert wrong[0] and all(map(torch.equal, right[0], wrong[0])), "float32 is not stored so"
    assert {operator for operator, _ in changed if not broken.gives("aten::" + operator)} == set()
    assert name == "half_saturates" or all(finite for _, finite in changed)


def test_the_table_has_the_names_that_the_sources_ask_for() -> None:
    text = "".join(path.read_text() for path in SOURCES.glob("*.cpp"))
    assert set(re.findall(r'\bis\("(\w+)"\)', text)) == set(BROKEN)


def test_each_mistake_is_said_once_for_an_operator() -> None:
    assert len(BROKEN) >= 40
    said = [(broken.operators, broken.what) for broken in BROKEN.values()]
    assert len(set(said)) == len(said)


@pytest.mark.parametrize(
    ("name", "operator", "given"),
    [
        ("add_tail", "aten::add.Tensor", True),
        ("add_tail", "aten::add_.Tensor", True),
        ("add_tail", "aten::addmm.default", False),
        ("mean_tail", "aten::mean.dim", True),
        ("layer_norm_unbiased", "aten::native_layer_norm.default", True),
        ("attention_scale", "aten::scaled_dot_product_attention.default", True),
        ("half_denormals", "aten::anything.default", True),
    ],
)
def test_which_operators_a_kernel_gives(name: str, operator: str, given: bool) -> None:
    assert BROKEN[name].gives(operator) is given
