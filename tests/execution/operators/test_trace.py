"""The pass that finds where a model goes wrong, on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from harness.devices.cpu import CpuDevice
from harness.execution.operators import calls, on_device, shadow, trace
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.localization import Localization


class Tangled(nn.Module):
    """What hooks on modules miss: functional calls, in place, a module called twice, views."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.mix = nn.Linear(8, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, 5]."""
        x = self.act(self.stem(images))
        x = x.masked_fill(~(x < 100), 100.0)
        x = nn.functional.interpolate(x, scale_factor=0.5, mode="bilinear")
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.mix(torch.roll(tokens, 1, dims=1))
        tokens = tokens + self.mix(tokens)
        heads = tokens.unflatten(2, (2, 4)).transpose(1, 2)
        heads = nn.functional.scaled_dot_product_attention(heads, heads, heads)
        tokens = heads.transpose(1, 2).flatten(2)
        tokens.mul_(2.0)
        return self.head(tokens.mean(1))


def model() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return Tangled().eval(), torch.randn(3, 3, 12, 12)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_pass_is_the_model_s_own_forward_pass(dtype):
    net, images = model()
    rows, outputs, restarts = trace.trace(net, images, CpuDevice(), Arithmetic(dtype))
    store = getattr(torch, dtype)
    with torch.no_grad():
        own = net.to(store)(images.to(store)).float()
    assert restarts == 0
    torch.testing.assert_close(torch.from_numpy(outputs["output"]), own, rtol=0, atol=0)
    found = Localization(dtype, 0, 3, tuple(rows), full=Arithmetic(dtype).full)
    assert found.culprits == [] and found.first_beyond is None


def test_every_call_has_a_row_with_its_module_and_operator():
    net, images = model()
    rows, _, _ = trace.trace(net, images, CpuDevice(), Arithmetic())
    seen = [(row.operator, row.module) for row in rows]
    for call in ("mix", "mix#2"):
        assert any(operator.endswith("mm.default") for operator, where in seen if where == call)
    assert ("aten::relu_.default", "act") in seen
    names = {row.operator for row in rows if row.module == "(model)"}
    for functional in ("roll", "upsample_bilinear2d", "mul_", "mean"):
        assert any(name.startswith(f"aten::{functional}.") for name in names), names
    whole = next(
        row for row in rows if row.operator == "aten::scaled_dot_product_attention.default"
    )
    assert whole.shapes == ("3x2x36x4",) * 3 and whole.outputs == ("3x2x36x4",)
    assert whole.memory_format == "strided" and whole.arithmetic == "float32"
    assert [row.index for row in rows] == sorted({row.index for row in rows})


@pytest.mark.parametrize(
    ("operator", "module"), [("roll", "(model)"), ("mul_", "(model)"), ("relu_", "act")]
)
def test_a_wrong_operator_is_named_and_what_follows_only_inherits(monkeypatch, operator, module):
    honest = calls.rerun

    def damaged(call, func, *args, **kwargs):
        value = honest(call, func, *args, **kwargs)
        if kwargs.get("device") is not None and call.name.startswith(f"aten::{operator}."):
            value.mul_(1.01)
        return value

    monkeypatch.setattr(on_device, "rerun", damaged)
    monkeypatch.setattr(shadow, "rerun", damaged)
    net, images = model()
    rows, _, _ = trace.trace(net, images, CpuDevice(), Arithmetic())
    found = Localization("float32", 0, 3, tuple(rows))
    (culprit,) = found.culprits
    assert (culprit.module, culprit.operator.split(".")[0]) == (module, f"aten::{operator}")
    assert found.first_beyond == culprit
    last = rows[-1]
    assert last.inherited_ratio > 100 and last.ratio < 2
    before = [row for row in rows if row.index < culprit.index]
    assert not any(row.inherited_rmse > 0 for row in before)


def test_a_form_of_gelu_concerns_no_product(monkeypatch):
    net, images = model()
    imitated = []
    honest = calls.run_budget
    monkeypatch.setattr(
        calls, "run_budget", lambda call, *rest: imitated.append(call) or honest(call, *rest)
    )
    rows, _, _ = trace.trace(net, images, CpuDevice(), Arithmetic(gelu="tanh"))
    products = [row for row in rows if "convolution" in row.operator or "mm" in row.operator]
    assert products and {row.arithmetic for row in products} == {"float32"}
    # Nothing is shortened, so there is nothing to imitate unless a result is in doubt.
    assert imitated == []
