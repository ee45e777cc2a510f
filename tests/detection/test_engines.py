"""Engines as devices: what they compute is theirs, and wrong kernels of theirs would be named."""

from __future__ import annotations

import dataclasses
import importlib.util

import pytest
import torch
from torch import nn
from torch.nn import functional

from harness.detection import engines
from harness.detection.engines import EngineDevice, NotTaken, open_engine
from harness.entry.commands.main import main
from harness.execution import legs
from harness.execution.operators.calls import Call
from harness.execution.operators.trace import check
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.operator_rows import compared, culprits
from harness.system.status import CaseProblem, Status, UsageProblem

aten = torch.ops.aten


@pytest.fixture(params=engines.ENGINES)
def device(request) -> EngineDevice:
    for part in ("onnx", request.param):
        pytest.importorskip(part, reason=f"{request.param} is tried where pip has it: .[engines]")
    return EngineDevice(open_engine(request.param))


class Small(nn.Module):
    """Operators that engines have, in place and whole, with forms of the exporter's own."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.group = nn.GroupNorm(2, 8)
        self.head = nn.Linear(8, 5)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.gelu(self.norm(self.conv(x)))
        x = self.group(x).mul_(x).add_(x)
        x = nn.functional.adaptive_avg_pool2d(torch.cat([x, x.sigmoid()], 1), 4)[:, 4:12]
        tokens = x.flatten(2).transpose(1, 2)
        heads = tokens.unsqueeze(1).contiguous()
        tokens = nn.functional.scaled_dot_product_attention(heads, heads, heads).squeeze(1)
        return self.head(tokens.softmax(-1).mean(1))


@pytest.fixture(scope="module")
def small() -> tuple[nn.Module, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return Small().eval(), torch.randn(3, 3, 10, 10, generator=generator)


def test_honest_operators_are_all_compared_and_no_culprits(small, device):
    rows = check(*small, device, Arithmetic())
    names = {row.operator.removeprefix("aten::").split(".")[0] for row in compared(rows)}
    assert names >= {
        "convolution", "native_batch_norm", "gelu", "native_group_norm", "mul_", "add_", "cat",
        "_adaptive_avg_pool2d", "scaled_dot_product_attention", "_softmax", "mean", "addmm",
    }  # fmt: skip
    assert culprits(rows) == []
    assert any(row.own_rmse > 0 for row in compared(rows)), "the CPU's own kernels ran"


class Hard(nn.Module):
    """Where other honest kernels differ most: sums that cancel or are long, zeros of functions."""

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        resized = [
            functional.interpolate(x, size=size, mode=mode)
            for mode in ("bilinear", "bicubic")
            for size in ((28, 28), (5, 9))
        ]
        functions = (torch.erf, torch.tanh, functional.gelu)
        near_zero = [f(x * scale) for f in functions for scale in (1e-8, 1e-5, 0.02)]
        far = x + 30
        rows = x.flatten(2)
        cancelling = torch.addmm(torch.full((48,), -3 * 48.0), far[0, 0] / 10, torch.ones(48, 48))
        sums = [
            functional.group_norm(far, 1),
            functional.layer_norm(far, (48,)),
            far.mean((2, 3)),
            (rows * 30).softmax(-1),
            functional.scaled_dot_product_attention(rows * 3, rows, rows),
        ]
        return [*resized, *near_zero, *sums, cancelling]


def test_honest_kernels_are_not_accused_where_they_differ_most(device):
    images = torch.randn(2, 64, 48, 48, generator=torch.Generator().manual_seed(2))
    rows = check(Hard().eval(), images, device, Arithmetic())
    assert len(compared(rows)) > 25
    refused = {row.operator for row in rows if row.skipped.startswith("the device")}
    assert refused == {"aten::full.default", "aten::ones.default"}, "what has no input"
    assert culprits(rows) == []


def test_a_wrong_kernel_of_an_engine_is_named(small, device, monkeypatch):
    honest = device.engine.compiled

    def compiled(model, dtype):
        run = honest(model, dtype)
        wrong = b"Softmax" in model
        return lambda arrays: [out * 1.001 if wrong else out for out in run(arrays)]

    monkeypatch.setattr(device.engine, "compiled", compiled)
    found = {row.operator for row in culprits(check(*small, device, Arithmetic()))}
    attention = "aten::scaled_dot_product_attention.default"
    assert found == {"aten::_softmax.default", attention}


def test_a_whole_model_gives_what_the_cpu_gives(leg_request, device):
    def ran(on) -> legs.LegResult:
        return legs.run(on, dataclasses.replace(leg_request, batch_checks=True), lambda stage: None)

    mine, theirs = ran(device), legs.run(engines.CpuDevice(), leg_request, lambda stage: None)
    assert mine.outputs.keys() == theirs.outputs.keys() == {"output", "forward_features"}
    for name, values in theirs.outputs.items():
        assert mine.outputs[name] == pytest.approx(values, rel=1e-3, abs=1e-3)
    assert any((mine.outputs[name] != theirs.outputs[name]).any() for name in theirs.outputs)
    assert mine.variants.keys() == {"permuted", "alone"}
    assert not mine.unstable and mine.logits == theirs.logits
    assert device.engine.title in mine.record.device.name


def test_what_no_engine_takes_is_a_reason(device, leg_request, monkeypatch):
    x = torch.randn(4, 4)
    with pytest.raises(NotTaken, match="UnsupportedOperatorError"):
        device.operator(aten.geqrf.default)(x)
    with pytest.raises(NotTaken, match="no input"):
        device.operator(aten.arange.default)(4)
    monkeypatch.setattr(device.engine, "compiled", lambda model, dtype: 1 / 0)
    with pytest.raises(CaseProblem, match="does not take the model: ZeroDivisionError") as caught:
        legs.run(device, leg_request, lambda stage: None)
    assert caught.value.status is Status.FAIL_UNSUPPORTED


def test_a_format_without_kernels_is_a_problem_of_the_case():
    for part in ("onnx", "onnxruntime"):
        pytest.importorskip(part, reason="needs onnxruntime: .[engines]")
    with pytest.raises(CaseProblem, match="no bfloat16 kernels") as caught:
        EngineDevice(open_engine("onnxruntime"), "bfloat16")
    assert caught.value.status is Status.FAIL_UNSUPPORTED


def test_a_missing_or_unknown_engine_is_one_sentence(monkeypatch, capsys):
    with pytest.raises(UsageProblem, match="Unknown engine 'tvm': give onnxruntime, openvino"):
        open_engine("tvm")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["study", "--engines", "openvino", "--models", "test_resnet"]) == 4
    said = capsys.readouterr().err
    assert "`pip install onnx openvino`" in said and said.count("\n") == 1


def test_one_computation_serves_calls_that_differ_in_values_alone():
    def signature(*args) -> str:
        call = Call(aten.mul.Tensor, args, {})
        return engines._signature(call, list({id(t): t for t in call.tensors()}.values()))

    x, y, wide = torch.ones(2, 3), torch.zeros(2, 3), torch.ones(4, 3)
    assert signature(x, y) == signature(y, x)
    assert len({signature(x, y), signature(x, x), signature(wide, wide), signature(x, 2.0)}) == 4


def test_weights_are_constants_and_activations_are_not():
    x, weight, bias = torch.ones(2, 3), torch.ones(3, 4), torch.ones(4)
    assert engines._weights(Call(aten.addmm.default, (bias, x, weight), {})) == [bias, weight]
    assert engines._weights(Call(aten.mul.Tensor, (x, x), {})) == []
    norm = Call(aten.native_layer_norm.default, (x, [3], weight[:, 0], None, 1e-5), {})
    assert len(engines._weights(norm)) == 1
