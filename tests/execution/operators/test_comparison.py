"""Operators one by one: honest arithmetic is not flagged, damaged operators are, and no others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from harness.devices.cpu import CpuDevice
from harness.execution.operators import on_device
from harness.execution.operators.trace import check
from harness.judgement.arithmetic import HF32_BITS, Arithmetic, Factors
from harness.judgement.operator_rows import compared, culprits
from harness.system.status import CaseProblem, Stage, Status


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


PLAIN = Arithmetic()
ARITHMETICS = [PLAIN, Arithmetic("float16"), Arithmetic("bfloat16")]


@pytest.mark.parametrize("arithmetic", ARITHMETICS, ids=str)
def test_every_kind_of_call_is_compared_or_says_why_not(varied, arithmetic):
    rows = check(*varied, CpuDevice(), arithmetic)
    done = {row.operator.removeprefix("aten::").split(".")[0] for row in compared(rows)}
    assert done >= {
        "convolution", "native_batch_norm", "relu_", "max_pool2d_with_indices", "index", "cat",
        "roll", "zeros", "fill_", "add_", "arange", "sub", "argmax", "mean", "var",
        "scaled_dot_product_attention",
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
    rows = check(*varied, CpuDevice(), Arithmetic())
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
    check(model, images, CpuDevice(), Arithmetic("bfloat16"))
    handle.remove()
    assert torch.equal(results[0], expected)
    assert torch.equal(images, kept)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not model.conv._forward_pre_hooks and not model.conv._forward_hooks


def test_a_share_has_every_stratum_the_last_call_and_the_classifier():
    layers: list[nn.Module] = []
    for _ in range(10):
        layers += [nn.Conv2d(4, 4, 1), nn.ReLU(inplace=True)]
    last = [nn.Flatten(), nn.Linear(144, 5), nn.Linear(5, 5), nn.Linear(5, 5)]
    model = nn.Sequential(nn.Conv2d(3, 4, 3), *layers, *last).eval()
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def chosen(share: float | None, arithmetic: Arithmetic = PLAIN) -> list[str]:
        rows = check(model, images, CpuDevice(), arithmetic, share=share)
        return [row.module for row in compared(rows)]

    everything = ["0", *map(str, range(1, 21)), "22", "23", "24"]
    assert chosen(1.0) == chosen(None) == everything
    assert chosen(0.01) == ["0", "1", "2", "22", "23", "24"], "one of each shape, and the last"
    assert chosen(0.2) == ["0", "1", "2", "11", "12", "22", "23", "24"], "spread over the depth"
    model.pretrained_cfg = {"classifier": ("19",)}
    assert "19" in chosen(0.01) and "17" not in chosen(0.01)
    del model.pretrained_cfg
    # Where convolutions are shortened, all that is plain float32 is compared nevertheless.
    short = chosen(None, Arithmetic(short_conv=Factors(HF32_BITS)))
    assert [name for name in short if name not in everything[2:-3:2]] == [
        "0",
        "1",
        "11",
        "22",
        "23",
        "24",
    ]
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


def test_operators_run_as_the_device_runs_them(varied):
    class Halves(CpuDevice):
        def operator(self, func):
            wrong = func is torch.ops.aten.mean.dim
            return lambda *args, **kwargs: func(*args, **kwargs) * (0.5 if wrong else 1)

    found = culprits(check(*varied, Halves(), Arithmetic()))
    assert [row.operator for row in found] == ["aten::mean.dim"]


def test_a_missing_kernel_is_not_mistaken_for_the_device(varied):
    rows = check(*varied, Odd(lacks="aten::roll.default"), Arithmetic())
    assert [row.operator for row in rows if "no kernel" in row.skipped] == ["aten::roll.default"]


def test_an_operator_that_raises_is_a_row_and_a_device_error_is_the_end(varied):
    # A tensor on "meta" has no values to bring back.
    rows = check(*varied, Odd(place="meta"), Arithmetic())
    assert compared(rows) == []
    assert sum(row.skipped.startswith("the device raised NotImpl") for row in rows) > 10
    with pytest.raises(CaseProblem, match="aten::convolution.default in conv: broken") as caught:
        check(*varied, Odd(place="meta", explains=True), Arithmetic())
    assert caught.value.status is Status.ERROR_DEVICE


def test_a_worse_arithmetic_than_declared_is_found(varied, monkeypatch):
    from harness.execution import imitation

    honest = on_device.DeviceSide.run

    def run(self, call):
        with imitation.Imitation(Arithmetic(short_conv=Factors(HF32_BITS))):
            return honest(self, call)

    monkeypatch.setattr(on_device.DeviceSide, "run", run)
    found = culprits(check(*varied, CpuDevice(), Arithmetic()))
    assert [row.module for row in found] == ["conv"]
    allowed = Arithmetic(short_conv=Factors(HF32_BITS))
    assert culprits(check(*varied, CpuDevice(), allowed)) == []


def test_by_the_vendors_standard_an_honest_call_is_l2_and_a_damaged_one_is_not(varied, monkeypatch):
    (honest,) = {
        row.standing.level
        for row in check(*varied, CpuDevice(), PLAIN, standard=True)
        if row.operator == "aten::convolution.default"
    }
    assert honest == "L2"
    real = on_device.DeviceSide.run

    def off(self, call):
        return [x * (1 + 2.0**-19) if x.is_floating_point() else x for x in real(self, call)]

    monkeypatch.setattr(on_device.DeviceSide, "run", off)
    rows = [row for row in check(*varied, CpuDevice(), PLAIN, standard=True) if row.standing]
    found = {row.operator.split("::")[1].split(".")[0]: row.standing for row in rows}
    assert (found["convolution"].level, found["convolution"].ecosystem) == ("none", True)
    assert (found["roll"].level, found["roll"].ecosystem) == ("none", False)


@pytest.mark.parametrize("arithmetic", ARITHMETICS, ids=str)
def test_the_vendors_standard_is_asked_of_every_compared_call_and_changes_none(varied, arithmetic):
    plain, asked = (
        compared(check(*varied, CpuDevice(), arithmetic, standard=standard))
        for standard in (False, True)
    )
    assert all(row.standing is None for row in plain)
    assert all(row.standing is not None for row in asked)
    assert [(row.index, row.ratio) for row in plain] == [(row.index, row.ratio) for row in asked]
