"""Operators one by one on the emulated NPU: honest formats and planted faults."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from harness.judgement.operator_rows import OperatorRow, compared, culprits
from harness.system.files import ROOT

pytestmark = pytest.mark.slow  # three models on the emulated NPU, each operator by itself

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
         "aten::scaled_dot_product_attention.default", {}),
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
from harness.execution.operators import trace
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
            rows = trace.check(model, images, device, arithmetic)
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
    if arithmetic != "float32":  # there the emulator's kernels are the CPU's own, bit for bit
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
