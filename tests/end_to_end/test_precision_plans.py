"""From `prescribe` to a case that its plan lets pass, on the CPU in the device's place."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from harness.cases import precision_plans
from harness.entry.commands.main import main
from harness.report.text import render_case
from harness.system.status import Status
from tests.makers.runs import run_harness


@pytest.fixture(scope="module")
def overflowing(tiny_model, tmp_path_factory):
    """A convolution gives a million times as much, and its batch norm takes that away again."""
    folder = tmp_path_factory.mktemp("models") / "over"
    folder.mkdir()
    shutil.copy(tiny_model / "config.json", folder)
    config = json.loads((folder / "config.json").read_text())
    config.pop("harness_weights")
    (folder / "config.json").write_text(json.dumps(config))
    weights = load_file(tiny_model / "model.safetensors")
    weights["conv1.3.weight"] *= 1e6
    weights["conv1.4.running_mean"] *= 1e6
    weights["conv1.4.running_var"] *= 1e12
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def plan(overflowing, tmp_path_factory, cache_dir):
    path = tmp_path_factory.mktemp("plans") / "plan.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE_DIR", str(cache_dir))
        code = main([
            "prescribe", "--model", str(overflowing), "--dtype", "float16", "--device", "cpu",
            "--target", "error_rate<1, top1>=100", "--output", str(path),
        ])  # fmt: skip
    assert code == 0
    return path


def test_the_plan_has_the_module_that_overflows(plan):
    found = precision_plans.read(plan)
    assert found.modules == ["conv1.3", "conv1.4"] and found.dtype == "float16"
    assert found.observed["error_rate"] < 1 and found.observed["top1"] == 100.0
    assert len(found.seconds) == 2 and not found.emulated


def entry(directory, **keys):
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
    return (
        f'[[case]]\ndirectory = "{directory}"\ninputs = ["synthetic"]\ndtype = ["float16"]\n'
        f'numerics = ["strict"]\n{lines}'
    )


def test_a_case_passes_with_its_plan_and_not_without(tmp_path, cache_dir, overflowing, plan):
    cases = entry(overflowing) + entry(overflowing, plan=str(plan))
    found = run_harness(tmp_path, cache_dir, "--device", "cpu", cases=cases)
    without, planned = found.run.cases
    assert without.status is Status.FAIL_NAN or without.status is Status.FAIL_REFERENCE
    assert planned.status is Status.PASS
    assert planned.case_id.endswith("-float16-b8-strict-plan-plan")
    assert planned.plan.modules == ["conv1.3", "conv1.4"]
    assert planned.plan.sha256 == precision_plans.digest(precision_plans.read(plan))
    assert planned.arithmetic == "float16 with modules in float32: 2"
    assert 0.5 < planned.shares.predicted_rmse / planned.shares.budget_rmse < 2
    shown = render_case(planned)
    assert "Plan plan.json (" in shown and "Who caused the error of output" in shown


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"weights_sha256": "1" * 64}, Status.FAIL_LOAD, "was made for another model (over, "),
        ({"modules": ["conv1.30"]}, Status.FAIL_LOAD, "the model has no such module (did you"),
    ],
)
def test_a_plan_of_another_model_fails_the_case(
    tmp_path, cache_dir, overflowing, plan, change, status, said
):
    other = tmp_path / "other.json"
    other.write_text(json.dumps(json.loads(plan.read_text()) | change))
    cases = entry(overflowing, plan=str(other))
    found = run_harness(tmp_path, cache_dir, "--device", "cpu", cases=cases)
    (case,) = found.run.cases
    assert found.code == 1 and case.status is status and said in case.reason
    assert not case.log_tail  # the sentence says all: no traceback beside it


def test_a_plan_for_another_dtype_is_bad_usage(tmp_path, cache_dir, overflowing, plan):
    cases = entry(overflowing, plan=str(plan)).replace("float16", "bfloat16")
    found = run_harness(tmp_path, cache_dir, "--device", "cpu", cases=cases)
    assert found.code == 4 and "is for float16, the case over-" in found.text


def test_a_plan_without_hf32_for_a_case_that_has_none_is_bad_usage(
    tmp_path, cache_dir, overflowing, plan
):
    other = tmp_path / "other.json"
    other.write_text(json.dumps(json.loads(plan.read_text()) | {"dtype": "float32"}))
    cases = entry(overflowing, plan=str(other)).replace('"float16"', '"float32"')
    found = run_harness(tmp_path, cache_dir, "--device", "cpu", cases=cases)
    assert found.code == 4 and "which modules run without HF32, and the case over-" in found.text


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--target", "error_rate=1"], 4, "--target, column 11: '=' does not belong here."),
        (["--target", "error_rate<1", "--model", "test_*"], 4, "names several models"),
        (["--target", "error_rate<1", "--model", "none"], 4, "no timm architecture"),
    ],
)
def test_bad_usage_is_one_sentence(capsys, monkeypatch, cache_dir, options, code, said):
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(cache_dir))
    given = ["--model", "test_vit", "--dtype", "float16", "--device", "cpu", *options]
    assert main(["prescribe", *given]) == code
    assert said in capsys.readouterr().err


def test_an_unreachable_target_ends_with_1_and_the_best(
    capsys, monkeypatch, tmp_path, cache_dir, tiny_model
):
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(cache_dir))
    path = tmp_path / "plan.json"
    code = main(["prescribe", "--model", str(tiny_model), "--dtype", "bfloat16", "--device", "cpu",
                 "--target", "budget_ratio<0.001", "--output", str(path)])  # fmt: skip
    text = capsys.readouterr().out
    assert code == 1 and "budget_ratio<0.001 is not reached: not even with all" in text
    assert precision_plans.read(path).observed["budget_ratio"] > 0.001
