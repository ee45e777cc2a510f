"""Operators one by one: honest arithmetic is not flagged, damaged operators are, and no others."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.devices.cpu import CpuDevice
from harness.execution.operators import calls, on_device
from harness.execution.operators.comparison import compare_operators
from harness.judgement.arithmetic import HF32_BITS, Arithmetic
from harness.judgement.operator_error import SLICE_PRIOR, Rounding, own_error
from harness.judgement.operator_rows import (
    RATIO_LIMIT,
    SLICE_RATIO_LIMIT,
    OperatorRow,
    compared,
    culprits,
)
from harness.system.files import ROOT
from harness.system.status import CaseProblem, Stage, Status

ROUNDING = {
    torch.float16: Rounding(2**-11, 0.0, 2**-24),
    torch.bfloat16: Rounding(2**-8, 0.0, 2**-133),
}


@pytest.mark.parametrize("dtype", list(ROUNDING))
@pytest.mark.parametrize("scale", [1e-7, 1e-3, 1.0, 1e4])
@pytest.mark.parametrize("shape", [(1, 1), (2, 300), (2, 40, 1, 1), (3, 8, 5, 5)])
def test_rounding_to_nearest_stays_below_the_root_of_three(dtype, scale, shape):
    generator = torch.Generator().manual_seed(hash((scale, shape)) % 1000)
    exact = torch.randn(shape, generator=generator, dtype=torch.float64) ** 5 * scale
    exact = exact.clamp(-60000, 60000)
    error = own_error(
        exact.numpy(), exact.numpy(), exact.to(dtype).double().numpy(), ROUNDING[dtype]
    )
    assert 0 <= error.ratio <= 3**0.5 * (1 + 1e-9)
    # The slices' prior can only raise their budget.
    assert error.worst_slice_ratio <= 3**0.5 * (1 + 1e-9)


def test_a_dead_channel_shows_in_its_slice_and_a_wrong_item_in_its():
    exact = np.random.default_rng(0).normal(size=(4, 256, 6, 6))
    budget = exact * (1 + 2**-9)
    dead = budget.copy()
    dead[:, 31] = 0
    error = own_error(exact, budget, dead, Rounding(2**-9))
    assert error.worst_slice == (1, 31) and error.worst_slice_ratio > 100
    assert error.ratio < error.worst_slice_ratio / 5
    swapped = budget.copy()
    swapped[3] = budget[0]
    assert own_error(exact, budget, swapped, Rounding(2**-9)).worst_slice == (0, 3)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (2, 3, 4, 5), (2, 1, 3, 2, 4)])
def test_slices_are_taken_along_every_dimension(shape):
    generator = np.random.default_rng(1)
    exact = generator.normal(size=shape)
    rounding = Rounding(2**-11)
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        wrong = exact.copy()
        part = np.moveaxis(wrong, axis, 0)[size - 1]  # a view
        part *= 1.5
        error = own_error(exact, exact, wrong, rounding)
        difference = np.moveaxis(wrong - exact, axis, 0)[size - 1]
        power = np.mean(np.square(exact)) * 2**-22 / 3
        prior = SLICE_PRIOR * power / (difference.size + SLICE_PRIOR)
        own = np.mean(np.square(np.moveaxis(exact, axis, 0)[size - 1])) * 2**-22 / 3
        expected = np.sqrt(np.mean(np.square(difference)) / max(prior, own))
        assert error.worst_slice_ratio >= expected * (1 - 1e-9)
        if error.worst_slice == (axis, size - 1):
            assert error.worst_slice_ratio == pytest.approx(expected)
        assert error.ratio == pytest.approx(np.sqrt(np.mean(np.square(wrong - exact)) / power))


def test_own_error_of_exact_and_of_impossible_results():
    zeros = np.zeros((2, 3))
    assert own_error(zeros, zeros, zeros, Rounding(0)).ratio == 0
    wrong = zeros.copy()
    wrong[1, 2] = 1
    assert own_error(zeros, zeros, wrong, Rounding(0)).ratio == np.inf
    broken = np.ones((2, 3))
    broken[0, 1] = np.nan
    error = own_error(np.ones((2, 3)), np.ones((2, 3)), broken, Rounding(1e-3))
    assert error.nonfinite == 1 and error.ratio == 0
    overflow = np.array([[np.inf, 1.0]])
    error = own_error(np.ones((1, 2)), overflow, overflow, Rounding(1e-3))
    assert error.nonfinite == 0, "the declared format overflows there as well"
    with pytest.raises(ValueError, match="shapes differ"):
        own_error(zeros, zeros, np.zeros((3, 2)), Rounding(0))


class Varied(nn.Module):
    """Operators that need care: views, in place, lists, indices, factories, random, attention."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.register_buffer("order", torch.tensor([3, 1, 0, 2, 7, 6, 5, 4]))

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.conv(x)))
        x = self.pool(self.act(x - 0.2))
        x = x[:, self.order]
        x = torch.cat([x, x.roll(1, 2)], 1)
        x += torch.zeros(1, device="cpu").fill_(0.1)
        x = x * torch.arange(2, dtype=torch.float32)[1]
        noise = torch.rand(3)
        tokens = x.flatten(2).transpose(1, 2)
        heads = tokens.unsqueeze(1).contiguous()
        tokens = nn.functional.scaled_dot_product_attention(heads, heads, heads).squeeze(1)
        tokens[:, 0] = noise.numel()
        top = tokens.argmax(-1).to(torch.float32)
        return tokens.mean(1) + top.var(1, keepdim=True)


@pytest.fixture(scope="module")
def varied() -> tuple[nn.Module, Tensor]:
    generator = torch.Generator().manual_seed(0)
    model = Varied().eval()
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.4
    return model, torch.randn(3, 3, 12, 12, generator=generator)


ARITHMETICS = [Arithmetic(), Arithmetic("float16"), Arithmetic("bfloat16")]


@pytest.mark.parametrize("arithmetic", ARITHMETICS, ids=str)
def test_every_kind_of_call_is_compared_or_says_why_not(varied, arithmetic):
    rows = compare_operators(*varied, CpuDevice(), arithmetic)
    done = {row.operator.removeprefix("aten::").split(".")[0] for row in compared(rows)}
    assert done >= {
        "convolution", "native_batch_norm", "relu_", "max_pool2d_with_indices", "index", "cat",
        "roll", "zeros", "fill_", "add_", "arange", "sub", "argmax", "mean", "var",
        "_scaled_dot_product_flash_attention_for_cpu",
    }  # fmt: skip
    reasons = {row.operator: row.skipped for row in rows if row.skipped}
    assert set(reasons.values()) <= {"view", "random", "uninitialised memory"}
    assert reasons["aten::rand.default"] == "random"
    assert reasons["aten::transpose.int"] == "view"
    assert [row.index for row in rows] == list(range(len(rows)))
    assert culprits(rows) == []
    # Moving data rounds nothing: the inputs were cast before.
    moved = [row for row in compared(rows) if row.operator.split(".")[0][6:] in ("cat", "roll")]
    assert moved and all(row.own_rmse == 0 == row.ratio for row in moved)


def test_modules_and_their_second_calls_are_named(varied):
    rows = compare_operators(*varied, CpuDevice(), Arithmetic())
    assert [row.module for row in rows if row.operator == "aten::relu_.default"] == ["act", "act#2"]
    where = {row.operator: row for row in rows}
    assert where["aten::cat.default"].module == "(model)"
    row = where["aten::convolution.default"]
    assert (row.module, row.shapes[:2]) == ("conv", ("3x3x12x12", "8x3x3x3"))
    assert (row.dtype, row.memory_format) == ("float32", "contiguous")


def test_the_forward_pass_and_the_model_are_left_alone(varied):
    model, images = varied
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    kept = images.clone()
    with torch.no_grad():
        expected = model(images)
    results = []
    handle = model.register_forward_hook(lambda module, args, output: results.append(output))
    compare_operators(model, images, CpuDevice(), Arithmetic("bfloat16"))
    handle.remove()
    assert torch.equal(results[0], expected)
    assert torch.equal(images, kept)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not model.conv._forward_pre_hooks and not model.conv._forward_hooks


def test_a_share_has_every_kind_and_is_the_same_for_the_same_seed():
    layers: list[nn.Module] = []
    for _ in range(10):
        layers += [nn.Conv2d(4, 4, 1), nn.ReLU(inplace=True)]
    model = nn.Sequential(nn.Conv2d(3, 4, 3), *layers).eval()
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def chosen(share: float, seed: int = 0) -> list[int]:
        rows = compare_operators(model, images, CpuDevice(), Arithmetic(), share=share, seed=seed)
        assert len(rows) == 21
        return [row.index for row in compared(rows)]

    assert len(chosen(1.0)) == 21
    small = chosen(0.01)
    assert len(small) == 3 and small[0] == 0, "a 3x3, a 1x1 and a ReLU"
    fifth = chosen(0.2)
    assert fifth == chosen(0.2) and len(fifth) == 5
    convolutions = [index for index in fifth if index % 2 == 1]
    assert [index > 10 for index in convolutions] == [False, True], "one from each half"
    assert any(chosen(0.2, seed) != fifth for seed in (1, 2, 3))
    with pytest.raises(ValueError, match="share"):
        chosen(0.0)


class Odd(CpuDevice):
    """A CPU that answers like a device in trouble."""

    def __init__(self, *, place: str = "cpu", lacks: str = "", explains: bool = False) -> None:
        super().__init__()
        self.torch_device = torch.device(place)
        self._lacks, self._explains = lacks, explains

    def fallback_operators(self, executed: list[str]) -> list[str]:
        return [name for name in executed if name == self._lacks]

    def explain(self, error: BaseException) -> CaseProblem | None:
        return CaseProblem(Status.ERROR_DEVICE, Stage.FORWARD, "broken") if self._explains else None


def test_a_missing_kernel_is_not_mistaken_for_the_device(varied):
    rows = compare_operators(*varied, Odd(lacks="aten::roll.default"), Arithmetic())
    assert [row.operator for row in rows if "no kernel" in row.skipped] == ["aten::roll.default"]


def test_an_operator_that_raises_is_a_row_and_a_device_error_is_the_end(varied):
    # A tensor on "meta" has no values to bring back.
    rows = compare_operators(*varied, Odd(place="meta"), Arithmetic())
    assert compared(rows) == []
    assert sum(row.skipped.startswith("the device raised NotImpl") for row in rows) > 10
    with pytest.raises(CaseProblem, match="aten::convolution.default in conv: broken") as caught:
        compare_operators(*varied, Odd(place="meta", explains=True), Arithmetic())
    assert caught.value.status is Status.ERROR_DEVICE


def test_a_worse_arithmetic_than_declared_is_found(varied, monkeypatch):
    from harness.execution import imitation

    honest = on_device.DeviceSide.run

    def run(self, call):
        with imitation.Imitation(Arithmetic(short_conv=HF32_BITS)):
            return honest(self, call)

    monkeypatch.setattr(on_device.DeviceSide, "run", run)
    found = culprits(compare_operators(*varied, CpuDevice(), Arithmetic()))
    assert [row.module for row in found] == ["conv"]
    allowed = Arithmetic(short_conv=HF32_BITS)
    assert culprits(compare_operators(*varied, CpuDevice(), allowed)) == []


@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 1, 1), (2, 0, 1), (2, 3, 2)])
def test_the_oracle_of_depthwise_convolutions(multiplier, stride, padding, dilation):
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 6, 13, 12, generator=generator, dtype=torch.float64)
    weight = torch.randn(6 * multiplier, 1, 3, 5, generator=generator, dtype=torch.float64)
    bias = torch.randn(6 * multiplier, generator=generator, dtype=torch.float64)
    sizes = [[stride, stride], [padding, padding + 1], [dilation, dilation]]
    expected = nn.functional.conv2d(image, weight, bias, *sizes, groups=6)
    got = calls.depthwise(image, weight, bias, *sizes, False, [0, 0], 6)
    assert torch.allclose(got, expected, rtol=1e-13, atol=1e-13)


def test_culprits_come_worst_first():
    def row(index: int, ratio: float, slice_ratio: float, **more: object) -> OperatorRow:
        return OperatorRow(
            index, "aten::add.Tensor", "", (), "float32", "contiguous",
            ratio=ratio, worst_slice_ratio=slice_ratio, **more,
        )  # fmt: skip

    rows = [
        row(0, 1.0, SLICE_RATIO_LIMIT),
        row(1, RATIO_LIMIT * 2, 1.0),
        row(2, 1.0, SLICE_RATIO_LIMIT * 3),
        row(3, 0.0, 0.0, nonfinite=1),
        row(4, 99.0, 99.0, skipped="view"),
    ]
    assert [found.index for found in culprits(rows)] == [3, 2, 1]
    assert culprits([row(5, float("nan"), 0.0)])[0].index == 5


# (kind, CANN operator, call, aten operator, more fields of the fault).  No two hit one call.
_PLANS: dict[str, list[tuple[str, str, int, str, dict[str, float]]]] = {
    "test_resnet": [
        ("swap_channels", "Convolution", 1, "aten::convolution.default", {}),
        ("noise_output", "Convolution", 3, "aten::convolution.default", {"magnitude": 0.01}),
        ("zero_channels", "Convolution", 6, "aten::convolution.default", {"magnitude": 1}),
        ("scale_output", "Convolution", 9, "aten::convolution.default", {"magnitude": 1.01}),
        ("scale_weight", "Convolution", 12, "aten::convolution.default", {"magnitude": 1.05}),
        ("scale_output", "BatchNorm", 1, "aten::native_batch_norm.default", {"magnitude": 1.01}),
        ("stale_mean", "BatchNorm", 5, "aten::native_batch_norm.default", {}),
        ("permute_batch", "BatchNorm", 11, "aten::native_batch_norm.default", {}),
        ("duplicate_first_item", "InplaceRelu", 4, "aten::relu_.default", {}),
        ("nan_output", "InplaceAdd", 2, "aten::add_.Tensor", {}),
        ("drop_bias", "Addmm", 1, "aten::addmm.default", {}),
    ],
    "test_vit": [
        ("noise_output", "Addmm", 2, "aten::addmm.default", {"magnitude": 0.01}),
        ("drop_bias", "Addmm", 12, "aten::addmm.default", {}),
        ("zero_channels", "Addmm", 23, "aten::addmm.default", {"magnitude": 1}),
        ("zero_channels", "LayerNorm", 4, "aten::native_layer_norm.default", {"magnitude": 1}),
        ("scale_output", "Gelu", 3, "aten::gelu.default", {"magnitude": 1.01}),
        ("duplicate_first_item", "FlashAttentionScore", 2,
         "aten::_scaled_dot_product_flash_attention_for_cpu.default", {}),
    ],
}  # fmt: skip


_SCRIPT = """
import dataclasses, json, sys, warnings
warnings.simplefilter("ignore")
import harness, torch
from pathlib import Path
from harness.cases.models.model_files import ModelFiles
from harness.devices.fault_plan import Fault, FaultPlan
from harness.devices.opening import open_device
from harness.devices.spec import parse
from harness.execution.operators import comparison
from harness.judgement.arithmetic import declared
from harness.cases.case import ModelSource

plans, cache = json.loads(sys.argv[1]), Path(sys.argv[2])
torch.set_num_threads(1)  # the tensors are small
device = open_device(parse("npu-emulated"))
for name, plan in plans.items():
    source = ModelSource("architecture", name, num_classes=50)
    model = ModelFiles.of(source, cache).load().model
    size = 160 if name == "test_vit" else 64
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))
    faults = [Fault(kind, op, first=n, last=n, **more) for kind, op, n, _, more in plan]
    single = [Fault("fp16_accumulate", "Convolution"), Fault("scale_weight", "Addmm", index=3)]
    for profile, dtype in (("strict", "float32"), ("default", "float32"),
                           ("strict", "float16"), ("strict", "bfloat16")):
        numerics = device.apply_numerics(profile)
        if name == "test_vit":  # as a leg finds it: torch_npu computes every gelu as tanh
            numerics = {**numerics, "gelu": "tanh"}
        arithmetic = declared(dtype, numerics)
        for label, planted in (("honest", []), ("faults", faults), ("small", single)):
            if label != "honest" and not plan or label == "small" and not arithmetic.full:
                continue
            device.emulator.set_faults(FaultPlan(tuple(planted)))
            rows = comparison.compare_operators(model, images, device, arithmetic)
            plain = dataclasses.replace(arithmetic, gelu="")
            print("ROWS " + json.dumps([name, str(plain), label,
                device.emulator.fault_effects(), [dataclasses.asdict(row) for row in rows]]))
"""


@pytest.fixture(scope="module")
def emulated(cache_dir) -> dict[tuple[str, str, str], tuple[list[int], list[OperatorRow]]]:
    """(model, arithmetic, "honest" / "faults" / "small") -> effects of each fault, rows."""
    plans = {"test_efficientnet": [], **_PLANS}
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, json.dumps(plans), str(cache_dir)],
        cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    found = {}
    for line in done.stdout.splitlines():
        if line.startswith("ROWS "):
            name, arithmetic, label, effects, rows = json.loads(line.removeprefix("ROWS "))
            found[name, arithmetic, label] = (
                effects,
                [OperatorRow(**{**row, "shapes": tuple(row["shapes"])}) for row in rows],
            )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return found


FORMATS = ["float32", "float32 with HF32 conv", "float16", "bfloat16"]


@pytest.mark.parametrize("arithmetic", FORMATS)
@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet"])
def test_honest_formats_are_not_flagged(emulated, name, arithmetic):
    rows = emulated[name, arithmetic, "honest"][1]
    assert culprits(rows) == []
    assert len(compared(rows)) > 40
    assert {row.skipped for row in rows} <= {"", "view", "uninitialised memory"}
    own = [row.own_rmse for row in rows if row.operator == "aten::convolution.default"]
    assert max(own) > 0, "nothing was computed"


@pytest.mark.parametrize("arithmetic", FORMATS)
@pytest.mark.parametrize("name", list(_PLANS))
def test_planted_faults_are_found_and_nothing_else(emulated, name, arithmetic):
    effects, rows = emulated[name, arithmetic, "faults"]
    # A fault counts once for every result of a call: LayerNorm has three.
    assert min(effects) >= 1 and len(effects) == len(_PLANS[name])
    expected = {}
    for kind, _, call, operator, _ in _PLANS[name]:
        calls = [row for row in compared(rows) if row.operator == operator]
        expected[calls[call - 1].index] = kind
    assert {row.index: expected.get(row.index, "?") for row in culprits(rows)} == expected


@pytest.mark.parametrize(("name", "operator", "count"), [
    ("test_resnet", "aten::convolution.default", 15), ("test_vit", "aten::addmm.default", 25),
])  # fmt: skip
def test_strict_float32_sees_what_hides_below_half_precision(emulated, name, operator, count):
    """Sums in fp16, and one weight of each linear layer half as large again."""
    rows = emulated[name, "float32", "small"][1]
    found = [row for row in culprits(rows) if row.operator == operator]
    assert len(found) == count
