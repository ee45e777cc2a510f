"""Planted faults are named exactly: the operator, the module and no other, over five families."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from harness.devices import npu as npu_module
from harness.devices.emulator import Emulator
from harness.devices.fault_plan import Fault, FaultPlan
from harness.devices.npu import NpuDevice
from harness.devices.spec import parse
from harness.execution.operators import reproducer
from harness.execution.operators import trace as tracing
from harness.judgement import arithmetic
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.localization import Localization
from harness.system.files import ROOT
from harness.upgrade.precheck import survey

EFFICIENTNET, RESNET, CONVNEXT = "efficientnet_b0", "resnet50", "convnext_atto"
VIT, SWIN = "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"
_built: dict[str, tuple[nn.Module, Tensor]] = {}


@pytest.fixture
def device(npu: Emulator, monkeypatch: pytest.MonkeyPatch) -> NpuDevice:
    """The emulated NPU of the pytest process as the harness opens it."""
    monkeypatch.setattr(npu_module, "EMULATED_DEVICES", npu.options.count)
    return NpuDevice(parse("npu-emulated"))


def build(architecture: str) -> tuple[nn.Module, Tensor]:
    """A model and two images, on the CPU."""
    if architecture not in _built:
        model, images = survey.build(architecture)
        _built[architecture] = model.float().eval(), images[:2].float()
    return _built[architecture]


def modules_of_calls(npu: Emulator, architecture: str, dtype: torch.dtype) -> Callable[..., str]:
    """(operator, call) -> innermost module that makes the call in the device's own forward pass.

    Independent of what is tested: hooks read the emulator's counters while the model runs there.
    """
    model, images = build(architecture)
    log: list[tuple[str, dict[str, int]]] = []  # who ran until then, and the counts by then
    stack: list[str] = ["(model)"]

    def enter(path: str) -> Callable[..., None]:
        def hook(*unused: object) -> None:
            log.append((stack[-1], npu.operator_counts()))
            stack.append(path)

        return hook

    def leave(*unused: object) -> None:
        log.append((stack.pop(), npu.operator_counts()))

    handles = []
    for path, module in model.named_modules():
        if path:
            handles.append(module.register_forward_pre_hook(enter(path)))
            handles.append(module.register_forward_hook(leave))
    try:
        npu.set_faults(None)
        on_device = model.to(dtype).npu()
        npu.reset_counters()
        with torch.no_grad():
            on_device(images.to(dtype).npu())
        torch.npu.synchronize()
    finally:
        for handle in handles:
            handle.remove()
        model.float().cpu()
    log.append(("(model)", npu.operator_counts()))

    def where(operator: str, call: int) -> str:
        return next(path for path, counts in log if counts.get(operator, 0) >= call)

    return where


def declared_by(device: NpuDevice, architecture: str, dtype: str, profile: str) -> Arithmetic:
    """As a leg of this model would have it: torch_npu computes every gelu as tanh."""
    numerics = device.apply_numerics(profile)
    gelu = {} if architecture == EFFICIENTNET else {"gelu": "tanh"}
    return arithmetic.declared(dtype, {**numerics, **gelu})


def trace(
    device: NpuDevice,
    architecture: str,
    dtype: str,
    profile: str,
    *faults: Fault,
    repeats: int = 1,
    on_row: tracing.OnRow = lambda call, row: None,
) -> Localization:
    model, images = build(architecture)
    device.plant(FaultPlan(faults).to_json())
    declared = declared_by(device, architecture, dtype, profile)
    rows, _, restarts = tracing.trace(
        model, images, device, declared, repeats=repeats, on_row=on_row
    )
    assert all(device.counters().fault_effects), "the planted fault acted"
    return Localization(str(declared), 0, len(images), tuple(rows), restarts=restarts)


ATTENTION = "scaled_dot_product_attention"
# Model, dtype, aten operator; fault kind, the device's operator, its call, magnitude.
FAULTS = [
    (EFFICIENTNET, "float32", "convolution", "zero_channels", "Convolution", 30, 1),
    (EFFICIENTNET, "float16", "native_batch_norm", "noise_output", "BatchNorm", 7, 0.01),
    (EFFICIENTNET, "float32", "sigmoid", "scale_output", "Sigmoid", 12, 1.0001),
    (RESNET, "float32", "convolution", "scale_weight", "Convolution", 50, 1.001),
    (RESNET, "bfloat16", "native_batch_norm", "stale_mean", "BatchNorm", 3, 0.3),
    (VIT, "float32", ATTENTION, "scale_output", "FlashAttentionScore", 5, 1.01),
    (VIT, "float16", "addmm", "nan_output", "Addmm", 17, None),
    (SWIN, "float32", "roll", "permute_batch", "Roll", 4, None),
    (SWIN, "float32", "addmm", "fp16_accumulate", "Addmm", 30, None),
    (CONVNEXT, "float32", "convolution", "duplicate_first_item", "Convolution", 38, None),
]


@pytest.mark.parametrize(
    ("architecture", "dtype", "aten", "kind", "operator", "call", "magnitude"), FAULTS
)
def test_one_fault_is_named_and_nothing_else(
    device: NpuDevice,
    npu: Emulator,
    architecture: str,
    dtype: str,
    aten: str,
    kind: str,
    operator: str,
    call: int,
    magnitude: float | None,
) -> None:
    where = modules_of_calls(npu, architecture, getattr(torch, dtype))
    fault = Fault(kind, operator, first=call, last=call, magnitude=magnitude)
    found = trace(device, architecture, dtype, "strict", fault)
    assert len(found.culprits) == 1, found.conclusion()
    assert found.worst[0] == found.culprits[0]
    assert found.culprits[0].module == where(operator, call)
    assert found.culprits[0].operator.startswith(f"aten::{aten}.")
    assert found.culprits[0].inherited_ratio > 3
    assert found.restarts == 0


def test_two_faults_at_once_are_the_two_worst(device: NpuDevice, npu: Emulator) -> None:
    where = modules_of_calls(npu, RESNET, torch.float32)
    faults = (
        Fault("scale_output", "Convolution", first=10, last=10, magnitude=1.01),
        Fault("zero_channels", "BatchNorm", first=44, last=44, magnitude=2),
    )
    # HF32 convolutions are no third.
    found = trace(device, RESNET, "float32", "default", *faults)
    assert {row.module for row in found.worst[:2]} == {
        where("Convolution", 10),
        where("BatchNorm", 44),
    }
    assert len(found.culprits) == 2


def test_a_fault_that_comes_and_goes_is_found_by_repeating(
    device: NpuDevice, npu: Emulator
) -> None:
    where = modules_of_calls(npu, CONVNEXT, torch.float32)
    fault = Fault(
        "noise_output", "LayerNorm", first=9, last=9, magnitude=1e-9, probability=0.5, seed=3
    )
    found = trace(device, CONVNEXT, "float32", "strict", fault, repeats=10)
    (culprit,) = found.culprits
    assert culprit.module == where("LayerNorm", 9) and culprit.unstable > 0
    assert "differ when it is repeated" in found.conclusion()


@pytest.mark.parametrize("architecture", [EFFICIENTNET, CONVNEXT, VIT])
@pytest.mark.parametrize(
    ("dtype", "profile"), [("float32", "strict"), ("float32", "default"), ("float16", "strict")]
)
@pytest.mark.parametrize("kernels", ["aten", "cann"])
def test_an_honest_device_has_no_culprit_and_the_trace_is_its_forward_pass(
    device: NpuDevice, npu: Emulator, architecture: str, dtype: str, profile: str, kernels: str
) -> None:
    npu.set_kernels(kernels)
    model, images = build(architecture)
    declared = declared_by(device, architecture, dtype, profile)
    rows, outputs, restarts = tracing.trace(model, images, device, declared)
    found = Localization(str(declared), 0, len(images), tuple(rows), restarts=restarts)
    assert found.culprits == []
    # Kernels other than the reference's can pile up more than the budget in a dozen numbers.
    assert kernels == "cann" or found.first_beyond is None
    assert "No culprit" in found.conclusion()
    store = getattr(torch, dtype)
    try:
        with torch.no_grad():
            own = model.to(store).npu()(images.to(store).npu()).cpu().float()
    finally:
        model.float().cpu()
    assert torch.equal(torch.from_numpy(outputs["output"]), own) or dtype != "float32"
    torch.testing.assert_close(torch.from_numpy(outputs["output"]), own, rtol=0.02, atol=0.02)


def test_the_reproducer_shows_the_same_error_in_a_process_of_its_own(
    device: NpuDevice, npu: Emulator, tmp_path: Path
) -> None:
    planted = Fault("scale_output", "FlashAttentionScore", first=5, last=5, magnitude=1.01)
    declared = declared_by(device, VIT, "float16", "strict")
    scripts = reproducer.Reproducers(device.describe(), declared, {}, tmp_path)
    found = trace(device, VIT, "float16", "strict", planted, on_row=scripts.consider)
    (culprit,) = found.culprits
    device.plant(None)
    (name,) = scripts.written
    assert "import harness" not in (tmp_path / name).read_text(encoding="utf-8")
    # The operator alone runs there, so that its every call is the planted one.
    plan = tmp_path / "plan.json"
    always = Fault("scale_output", "FlashAttentionScore", magnitude=1.01)
    plan.write_text(FaultPlan((always,)).to_json(), encoding="utf-8")

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "harness", "emulate", *options, str(tmp_path / name)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    faulty, honest = run("--fault-plan", str(plan)), run()
    assert faulty.returncode == 1 and "The difference shows." in faulty.stdout, faulty.stderr
    assert f"rmse against float64: {culprit.own_rmse:.4g}"[:-1] in faulty.stdout
    assert honest.returncode == 0 and "No difference beyond rounding." in honest.stdout

    def plain(*options: str) -> int:
        """Without the harness, where torch_npu is installed and there is no NPU."""
        command = [sys.executable, str(tmp_path / name), *options]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode

    assert plain("--device", "cpu") == 0
    assert plain() == 3  # could not be run, which is no difference
    (tmp_path / name).with_suffix(".safetensors").unlink()
    assert plain("--device", "cpu") == 3


def test_a_group_norm_off_centre_is_the_culprit_with_the_kernels_of_cann(
    device: NpuDevice, npu: Emulator
) -> None:
    """Its variance in one pass loses what a mean of 30 deviations takes; ATen's does not."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.GroupNorm(16, 16), nn.SiLU(), nn.Conv2d(16, 8, 1), nn.Flatten()
    ).eval()
    with torch.no_grad():
        model[0].bias.fill_(30)
    images = torch.randn(4, 3, 8, 8)
    declared = declared_by(device, EFFICIENTNET, "float32", "strict")
    found = {}
    for kernels in ("cann", "aten"):
        npu.set_kernels(kernels)
        rows, _, restarts = tracing.trace(model, images, device, declared)
        located = Localization(str(declared), 0, 4, tuple(rows), restarts=restarts)
        found[kernels] = [row.operator for row in located.culprits]
    assert found == {"cann": ["aten::native_group_norm.default"], "aten": []}
