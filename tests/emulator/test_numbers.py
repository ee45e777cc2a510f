"""dtype, strides, offsets and memory formats arrive; HF32 and fp16 arithmetic is what was asked."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.cases.models.promotion import promote
from harness.devices.npu import NpuDevice
from harness.execution import gelu
from harness.system.status import Status

pytestmark = pytest.mark.usefixtures("npu")


@pytest.fixture
def hf32() -> Iterator[None]:
    torch.npu.conv.allow_hf32 = torch.npu.matmul.allow_hf32 = True
    yield
    torch.npu.conv.allow_hf32 = torch.npu.matmul.allow_hf32 = False


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def to_hf32(value: Tensor) -> Tensor:
    """fp32 with 11 mantissa bits, by another road than the emulator: scaled rounding."""
    mantissa, exponent = torch.frexp(value.double())
    return torch.ldexp(torch.round(mantissa * 2**12), exponent - 12).float()


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.uint8,
        torch.bool,
    ],
)
def test_dtype_survives_the_way_there_and_back(dtype: torch.dtype) -> None:
    value = (draw(5, 7) * 3).abs().to(dtype)
    back = value.npu().cpu()
    assert back.dtype == dtype
    assert torch.equal(back, value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_cast_rounds_to_nearest(dtype: torch.dtype) -> None:
    value = draw(100)
    assert torch.equal(value.npu().to(dtype).cpu(), value.to(dtype))


def test_views_read_the_right_elements() -> None:
    base = draw(4, 6, 8)
    device = base.npu()
    views = [
        (device.transpose(0, 2), base.transpose(0, 2)),
        (device[1:, ::2, 3:], base[1:, ::2, 3:]),
        (device[:, 2], base[:, 2]),
        (device.expand(3, 4, 6, 8), base.expand(3, 4, 6, 8)),
        (device.unfold(2, 3, 2), base.unfold(2, 3, 2)),
        (device.flatten()[5:].view(11, 17), base.flatten()[5:].view(11, 17)),
    ]
    for on_device, on_cpu in views:
        assert torch.equal((on_device * 2).cpu(), on_cpu * 2)


def test_views_write_the_right_elements() -> None:
    base = draw(4, 6, 8)
    device = base.npu()
    device[1:3, ::2, 3:].mul_(3)
    base[1:3, ::2, 3:].mul_(3)
    device.transpose(0, 1)[2].add_(1)
    base.transpose(0, 1)[2].add_(1)
    assert torch.equal(device.cpu(), base)


def test_convolution_of_a_strided_input() -> None:
    x, w = draw(2, 8, 6, 12), draw(4, 8, 3, 3, seed=1)
    expected = F.conv2d(x[:, :, :, ::2].transpose(2, 3), w)
    actual = F.conv2d(x.npu()[:, :, :, ::2].transpose(2, 3), w.npu())
    assert torch.allclose(actual.cpu(), expected, atol=1e-6)


def test_broadcast_and_promotion() -> None:
    a, b = draw(4, 1, 3), torch.arange(5).reshape(5, 1)
    result = a.npu() + b.npu()
    assert result.dtype == torch.float32
    assert torch.equal(result.cpu(), a + b)
    half = draw(3).half()
    assert (half.npu() * 2.5).dtype == torch.float16
    assert torch.equal((half.npu() * 2.5).cpu(), half * 2.5)


def test_empty_and_scalar_tensors() -> None:
    assert (torch.empty(0, 3).npu() + 1).cpu().shape == (0, 3)
    assert (torch.tensor(2.0).npu() * 3).item() == 6.0


def test_printing_a_tensor() -> None:
    assert "1.5000" in str(torch.tensor([1.5, 2.0]).npu())


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("bias", [False, True])
def test_strict_convolution_is_the_cpus(groups: int, bias: bool) -> None:
    x, w = draw(2, 16, 9, 9), draw(8, 16 // groups, 3, 3, seed=1)
    b = draw(8, seed=2) if bias else None
    expected = F.conv2d(x, w, b, stride=2, padding=1, groups=groups)
    actual = F.conv2d(x.npu(), w.npu(), None if b is None else b.npu(), 2, 1, groups=groups)
    assert torch.equal(actual.cpu(), expected)


@pytest.mark.usefixtures("hf32")
def test_hf32_convolution_rounds_its_inputs() -> None:
    x, w, b = draw(2, 16, 9, 9), draw(8, 16, 3, 3, seed=1), draw(8, seed=2)
    actual = F.conv2d(x.npu(), w.npu(), b.npu()).cpu()
    assert torch.allclose(actual, F.conv2d(to_hf32(x), to_hf32(w), b), rtol=0, atol=1e-5)
    error = (actual - F.conv2d(x, w, b)).std() / actual.std()
    # Two inputs, each with a relative error that is uniform in +-2**-12 at worst.
    assert 2**-12 / 4 < error < 2**-12


@pytest.mark.usefixtures("hf32")
@pytest.mark.parametrize("product", ["mm", "addmm", "bmm", "baddbmm", "matmul", "linear"])
def test_hf32_products_round_their_inputs(product: str) -> None:
    batched = product in ("bmm", "baddbmm", "matmul")
    a = draw(3, 20, 32) if batched else draw(20, 32)
    b = draw(3, 32, 10, seed=1) if batched else draw(32, 10, seed=1)
    c = draw(10, seed=2)

    def compute(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        if product == "linear":
            return F.linear(x, y.T, z)
        if product in ("addmm", "baddbmm"):
            return getattr(torch, product)(z, x, y)
        return getattr(torch, product)(x, y)

    actual = compute(a.npu(), b.npu(), c.npu()).cpu()
    assert torch.allclose(actual, compute(to_hf32(a), to_hf32(b), c), rtol=0, atol=1e-5)
    assert not torch.allclose(actual, compute(a, b, c), rtol=0, atol=1e-5)


def test_hf32_ties_go_to_even_and_infinities_stay() -> None:
    step = 2.0**-11
    values = torch.tensor([1 + step / 2, 1 + 1.5 * step, -1 - step / 2, float("inf"), 1e-40])
    torch.npu.matmul.allow_hf32 = True
    try:
        actual = torch.mm(values.reshape(5, 1).npu(), torch.ones(1, 1).npu()).cpu().flatten()
    finally:
        torch.npu.matmul.allow_hf32 = False
    assert actual[:4].tolist() == [1.0, 1 + 2 * step, -1.0, float("inf")]


def test_hf32_of_one_kind_leaves_the_other_alone() -> None:
    x, w = draw(1, 4, 6, 6), draw(4, 4, 3, 3, seed=1)
    torch.npu.matmul.allow_hf32 = True
    try:
        assert torch.equal(F.conv2d(x.npu(), w.npu()).cpu(), F.conv2d(x, w))
    finally:
        torch.npu.matmul.allow_hf32 = False


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_product_accumulates_in_fp32(dtype: torch.dtype) -> None:
    a, b = draw(8, 4096).to(dtype), draw(4096, 8, seed=1).to(dtype)
    exact = a.double() @ b.double()
    actual = (a.npu() @ b.npu()).cpu()
    assert actual.dtype == dtype
    # One rounding at the end, of values up to the largest: half a unit in the last place.
    unit = torch.finfo(dtype).eps / 2
    assert (actual.double() - exact).abs().max() <= unit * exact.abs().max() * 1.01


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_the_cpus(masked: bool) -> None:
    q, k, v = (draw(2, 3, 17, 16, seed=i) for i in range(3))
    mask = torch.rand(17, 17, generator=torch.Generator().manual_seed(5)) > 0.3 if masked else None
    expected = F.scaled_dot_product_attention(q, k, v, mask)
    device_mask = None if mask is None else mask.npu()
    actual = F.scaled_dot_product_attention(q.npu(), k.npu(), v.npu(), device_mask)
    assert torch.allclose(actual.cpu(), expected, atol=1e-6)


def test_indexing_and_sorting() -> None:
    x = draw(6, 8)
    d = x.npu()
    index = torch.tensor([3, 0, 5])
    assert torch.equal(d[index.npu()].cpu(), x[index])
    assert torch.equal(d[:, index.npu()].cpu(), x[:, index])
    assert torch.equal(d[d > 0].cpu(), x[x > 0])
    for on_device, on_cpu in zip(d.topk(3, dim=1), x.topk(3, dim=1), strict=True):
        assert torch.equal(on_device.cpu(), on_cpu)
    for on_device, on_cpu in zip(d.sort(dim=0), x.sort(dim=0), strict=True):
        assert torch.equal(on_device.cpu(), on_cpu)


def test_training_step_has_the_cpus_gradients() -> None:
    def gradients(device: str) -> list[Tensor]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Flatten()
        ).to(device)
        labels = torch.tensor([1, 2]).to(device)
        F.cross_entropy(model(draw(2, 3, 6, 6).to(device)), labels).backward()
        return [
            parameter.grad.cpu() for parameter in model.parameters() if parameter.grad is not None
        ]

    for on_device, on_cpu in zip(gradients("npu"), gradients("cpu"), strict=True):
        assert torch.allclose(on_device, on_cpu, atol=1e-6)


def test_gelu_is_tanh_whatever_is_asked_and_npu_gelu_does_as_asked() -> None:
    """As torch_npu documents; what a model asks for is then another form."""
    x = draw(1000) * 3
    forms = {form: F.gelu(x, approximate=form) for form in ("none", "tanh")}
    for asked in forms:
        torch.testing.assert_close(F.gelu(x.npu(), approximate=asked).cpu(), forms["tanh"])
        exact = torch.ops.npu.npu_gelu(x.npu(), approximate=asked).cpu()
        torch.testing.assert_close(exact, forms[asked])
    assert gelu.instead(torch.device("npu"), {"none"}) == "tanh"
    assert gelu.instead(torch.device("npu"), {"tanh"}) is None


def test_prelu_takes_its_weight_in_the_form_in_which_torch_npu_hands_it_on() -> None:
    layer, x = torch.nn.PReLU(5), torch.randn(2, 5, 4, 4)
    torch.nn.init.uniform_(layer.weight)
    with torch.no_grad():
        expected = layer(x)
        torch.testing.assert_close(layer.npu()(x.npu()).cpu(), expected, rtol=0, atol=0)


def test_the_refusal_of_channels_last_names_its_remedy() -> None:
    """torch_npu's own, in its host code: so would a real NPU."""
    x = torch.randn(2, 4, 4, 5).npu().permute(0, 3, 1, 2)
    with torch.no_grad(), pytest.raises(RuntimeError, match="MemoryFormat::Contiguous") as refused:
        F.gelu(x)
    asked: Any = SimpleNamespace(spec="npu:0", emulator=None)
    found = NpuDevice.explain(asked, refused.value)
    assert found is not None and found.status is Status.FAIL_UNSUPPORTED
    assert "call .contiguous() on the tensor before it" in found.reason


def test_modules_of_a_float32_plan_run_without_hf32(hf32: None) -> None:
    x, weights = draw(4, 64), (draw(32, 64, seed=1), draw(8, 32, seed=2))

    def run(modules: list[str]) -> Tensor:
        model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Linear(32, 8)).eval()
        with torch.no_grad():
            for layer, weight in zip(model, weights, strict=True):
                layer.weight.copy_(weight)
                layer.bias.zero_()
            return promote(model, torch.float32, modules).npu()(x.npu()).cpu()

    with torch.no_grad():
        first, last = weights
        hidden = to_hf32(x).double() @ to_hf32(first).double().t()
        for modules, expected in (
            ([], to_hf32(hidden.float()).double() @ to_hf32(last).double().t()),
            (["1"], hidden @ last.double().t()),
            (["0", "1"], x.double() @ first.double().t() @ last.double().t()),
        ):
            torch.testing.assert_close(run(modules).double(), expected, rtol=2e-6, atol=2e-4)
        assert not torch.equal(run(["1"]), run([])) and not torch.equal(run(["0"]), run([]))
    assert torch.npu.conv.allow_hf32 and torch.npu.matmul.allow_hf32
