"""GroupNorm off-centre: the case fails, and its culprit is what CANN publishes of GroupNorm.

EMULATED: the emulator computes GroupNorm's variance in one pass, as CANN's sources do.
"""

from __future__ import annotations

import shutil

import pytest
from safetensors.torch import load_file, save_file

from harness.cases.case import ModelSource
from harness.cases.models.loading import materialise
from harness.devices import emulated_kernels
from harness.report import markdown
from harness.report.html import page
from harness.system.status import Status
from harness.upgrade import expected_file
from tests.makers.cases import entry, plan

OFFSET = 200.0  # of the images' features that the last convolution sees, about 1 apart
CASE = "m-synthetic-float32-b8-strict"


@pytest.fixture
def off_centre(tmp_path, cache_dir):
    """timm's smallest architecture with GroupNorm; its last one sees a mean of many deviations.

    The bias of the norm before is raised, and the convolution between them adds the same to all of
    its channels: in exact arithmetic the last norm takes both off again.
    """
    source = ModelSource("architecture", "test_efficientnet_gn", num_classes=50)
    folder = shutil.copytree(materialise(source, cache_dir), tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    weights["blocks.4.0.bn3.bias"] += OFFSET
    head = weights["conv_head.weight"]
    head -= head.mean(1, keepdim=True)
    head += head.std() / 8
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_it_fails_names_groupnorm_and_is_known_as_cann_computes_it(
    off_centre, harness_run, tmp_path
):
    expected = f"--expected={tmp_path / 'expected'}"
    options = ("--device", "npu-emulated", "--numerics", "strict", expected)
    cases = entry(off_centre)
    done = harness_run(*options, "--update-expected", cases=cases)
    assert done.code == 11, done.text
    case = done.cases["m"]
    assert case.status is Status.FAIL_ACCURACY
    rows = case.localization.culprits
    assert [(row.operator, row.module) for row in rows] == [
        ("aten::native_group_norm.default", "bn2")
    ]
    method = rows[0].method
    assert method.agrees and rows[0].ratio > 3 > method.ratio
    assert case.operators.culprits == case.operators.as_cann == 1
    said = "As CANN computes it (variance in one pass, mean square less square of the mean"
    shown = done.text, page.render_alone(case), markdown.render_run([case])
    for text in (case.reason, case.localization.conclusion(), *shown):
        assert said in " ".join(text.split())
    for text in shown:
        assert "CULPRIT, as CANN computes it" in text

    path = expected_file.path_of(tmp_path / "expected", "npu-emulated", "strict")
    row = expected_file.read(path, "npu-emulated", "strict", kernels=emulated_kernels.CANN)[CASE]
    assert row.as_cann and "norm/group_norm_silu" in row.reason
    assert row.link == "https://github.com/hicann/ops-nn"

    done = harness_run(*options, cases=cases)
    assert done.code == 0, done.text
    assert done.cases["m"].expected.outcome.value == "known failure"
    assert done.cases["m"].status is Status.FAIL_ACCURACY

    fault = plan(tmp_path, kind="scale_output", operator="GroupNorm", magnitude=1.05)
    done = harness_run(*options, fault, cases=cases)
    assert done.code == 1, done.text
    found = done.cases["m"].localization.culprits
    assert not any(row.method.agrees for row in found)
    assert "all as CANN computes it -> not all as CANN computes it" in done.text


def test_the_cpus_own_kernels_pass(off_centre, harness_run):
    options = "--device", "npu-emulated", "--emulated-kernels", "aten"
    done = harness_run(*options, cases=entry(off_centre))
    assert done.cases["m"].status is Status.PASS, done.text
