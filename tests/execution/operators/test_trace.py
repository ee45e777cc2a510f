"""Localisation apart from any NPU: the pass on the CPU, its rows, their ranking and rendering."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.devices.cpu import CpuDevice
from harness.execution.operators import calls, on_device, shadow, trace
from harness.judgement import localization
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.budget import OracleError, OutputBudget
from harness.judgement.localization import Localization
from harness.report.html import plots
from tests.makers.localization import row


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
    found = Localization(dtype, 0, 3, tuple(rows))
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
    product = next(row for row in rows if row.operator == "aten::bmm.default")  # of the attention
    assert product.shapes == ("6x36x4", "6x4x36") and product.outputs == ("6x36x36",)
    assert product.memory_format == "strided" and product.arithmetic == "float32"
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


def test_culprits_come_first_and_intermittent_ones_count():
    rows = (
        row(0),
        row(1, ratio=50.0, own_rmse=5e-6),
        row(2, unstable=3),
        row(3, ratio=2.9),
        row(4, skipped="the device raised X"),
        row(5, nonfinite=1, ratio=0.0),
    )
    found = Localization("float32", 0, 2, rows)
    assert [r.index for r in found.culprits] == [2, 5, 1]
    assert [r.index for r in found.worst] == [2, 5, 1, 3, 0]
    assert "layer2 (operator 2): 3 elements differ" in found.conclusion()
    assert "2 more of 5 of 6 operators" in found.conclusion()


def test_no_culprit_says_so_and_whether_the_failure_came_back():
    found = Localization("float16", 0, 2, (row(0), row(1)), reproduced=False)
    assert found.conclusion().startswith("No culprit: none of 2 of 2 operators")
    assert "comes and goes" in found.conclusion()
    assert "comes and goes" not in dataclasses.replace(found, reproduced=True).conclusion()
    assert Localization(problem="error_crash: x").conclusion() == "Not localised: error_crash: x"


def test_inherited_errors_are_judged_by_the_declared_arithmetic():
    beyond = row(1, inherited_rmse=5e-6, inherited_budget_rmse=1e-6)
    assert Localization("float32", 0, 1, (row(0), beyond)).first_beyond is None
    assert Localization("float16", 0, 1, (row(0), beyond)).first_beyond == beyond
    assert row(0, inherited_rmse=0.0, inherited_budget_rmse=0.0).inherited_ratio == 0
    assert row(0, inherited_rmse=1e-9, inherited_budget_rmse=0.0).inherited_ratio > 1e300
    assert math.isnan(row(0).inherited_ratio)


def output_budget(*ratios: float) -> OutputBudget:
    error = OracleError(0.3, 1.0, 0.1, (0.3,) * len(ratios), (1.0,) * len(ratios))
    return OutputBudget("output", error, error, 0.1, 2.0, ratios, limit=3.0)


@pytest.mark.parametrize(
    ("ratios", "batch", "expected"),
    [
        ((1.0, 1.0, 9.0, 1.0, 1.0), 2, (2, 4)),
        ((1.0, 1.0, 1.0, 1.0, 9.0), 2, (4, 5)),
        ((1.0, math.nan, 99.0), 1, (1, 2)),
        ((), 8, (0, 6)),
    ],
)
def test_the_batch_with_the_worst_image_is_localised(ratios, batch, expected):
    budgets = [output_budget(*ratios)] if ratios else []
    assert localization.worst_batch(budgets, len(ratios) or 6, batch) == expected


def test_a_trace_reproduces_the_leg_within_its_budget():
    leg = {"output": np.ones((2, 3)), "features": np.ones(4)}
    budgets = [output_budget(2.0, 2.0)]  # allows 3 x 0.15
    assert localization.reproduced({"output": np.ones((2, 3))}, leg, budgets) is True
    assert localization.reproduced({"output": np.full((2, 3), 1.4)}, leg, budgets) is True
    assert localization.reproduced({"output": np.full((2, 3), 1.5)}, leg, budgets) is False
    assert localization.reproduced({"other": np.ones(3)}, leg, budgets) is None


def test_the_plot_marks_the_culprit_and_takes_the_page_s_colour():
    rows = tuple(row(i, inherited_rmse=1e-6, inherited_budget_rmse=1e-6) for i in range(5))
    found = Localization("float32", 0, 2, (*rows, row(7, nonfinite=2, own_rmse=math.inf)))
    svg = plots.error_over_depth(found, "a<b> & c")
    assert svg.startswith('<svg role="img" aria-label="Error over depth of a&lt;b&gt; &amp; c')
    assert "layer7" in svg and "currentColor" in svg and "#010203" not in svg
    assert svg == plots.error_over_depth(found, "a<b> & c"), "the same in every run"
