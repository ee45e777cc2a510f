"""Whole runs from the command line: statuses, exit codes, records and reports."""

import json
import xml.etree.ElementTree as ET

import pytest

from harness.report.text import render_case
from harness.system.status import Status
from tests.makers.cases import entry, plan

GOOD = """
[[case]]
directory = "{good}"
inputs = ["synthetic"]
numerics = ["strict"]
"""


def test_bad_models_are_one_sentence_each_and_the_others_still_run(harness_run, copy_of):
    good = copy_of("good")
    truncated = copy_of("truncated")
    weights = truncated / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    no_architecture = copy_of("no_architecture")
    config = json.loads((no_architecture / "config.json").read_text())
    (no_architecture / "config.json").write_text(
        json.dumps({key: value for key, value in config.items() if key != "architecture"})
    )
    unknown = copy_of("unknown")
    (unknown / "config.json").write_text(json.dumps(config | {"architecture": "resnet5000"}))
    foreign = copy_of("foreign")
    (foreign / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    text_image = good.parent / "notes.png"
    text_image.write_text("not an image")

    done = harness_run(
        "--device",
        "cpu",
        cases="\n".join(
            [
                entry(truncated),
                entry(no_architecture),
                entry(unknown),
                entry(foreign),
                entry(good, num_classes=7).replace(str(good), str(copy_of("classes"))),
                entry(copy_of("text_image"), images=str(text_image)),
                entry(good),
            ]
        ),
    )
    cases = done.cases
    assert {name: case.status for name, case in cases.items()} == {
        "truncated": Status.FAIL_LOAD,
        "no_architecture": Status.FAIL_LOAD,
        "unknown": Status.FAIL_LOAD,
        "foreign": Status.FAIL_LOAD,
        "classes": Status.FAIL_LOAD,
        "text_image": Status.FAIL_LOAD,
        "good": Status.PASS,
    }
    assert done.code == 1
    for name, word in {
        "truncated": "safetensors",
        "no_architecture": "architecture",
        "unknown": "resnet5000",
        "foreign": "bert",
        "classes": "7",
        "text_image": "notes.png",
    }.items():
        assert word in cases[name].reason
        assert cases[name].reason in done.text
        assert "\n" not in cases[name].reason


def test_reports_hold_the_documented_tables(harness_run, copy_of):
    good = copy_of("good")
    html, junit = good.parent / "r.html", good.parent / "j.xml"
    done = harness_run(
        "--device", "cpu", f"--html={html}", "--self-contained-html", f"--junitxml={junit}",
        cases=entry(good),
    )  # fmt: skip
    assert done.code == 0, done.text
    for page in (done.text, html.read_text()):
        for text in ("mean cosine similarity", "Top-1 agreement", "100.0 % (6/6)", "CPU Top-1"):
            assert text in page
    assert "EMULATED" not in html.read_text()
    properties = {p.get("name"): p.get("value") for p in ET.parse(junit).iter("property")}
    assert properties["status"] == "pass"
    assert float(properties["error_rate_percent"]) == pytest.approx(0, abs=1e-9)
    assert done.run.end.exit_code == 0
    assert done.run.run.environment["torch"] != "not installed"


def test_xdist_gives_the_same_records_and_exit_code(harness_run, copy_of):
    names = ["a", "b", "c"]
    bad = copy_of("bad")
    (bad / "config.json").write_text("{")
    cases = "\n".join([*(entry(copy_of(name)) for name in names), entry(bad)])
    html = bad.parent / "r.html"
    page = f"--html={html}", "--self-contained-html"
    done = harness_run("--device", "cpu", "-n", "2", *page, cases=cases)
    assert done.code == 1, done.text
    assert {n: c.status.value for n, c in done.cases.items()} == {
        "a": "pass", "b": "pass", "c": "pass", "bad": "fail_load",
    }  # fmt: skip
    assert done.run.missing == []
    assert done.run.end is not None
    text = html.read_text()
    assert all(
        text.count(f"data-case=\\&#34;{case.case_id}\\&#34;") == 1 for case in done.run.cases
    )
    assert "Without a row below" not in text


def test_the_emulated_npu_passes_and_is_labelled(harness_run, copy_of):
    good = copy_of("good")
    html = good.parent / "r.html"
    cases = entry(good).replace('numerics = ["strict"]', "")
    done = harness_run(
        "--device", "npu-emulated", f"--html={html}", "--self-contained-html", cases=cases
    )
    assert done.code == 0, done.text
    by_profile = {case.case.numerics: case for case in done.run.cases}
    assert all(case.emulated and case.status is Status.PASS for case in done.run.cases)
    assert all("emulator" in case.candidate.device.details for case in done.run.cases)
    assert by_profile["strict"].candidate.numerics["conv.allow_hf32"] == "False"
    assert by_profile["default"].candidate.numerics["conv.allow_hf32"] == "True"
    # HF32 convolutions really change the result, strict ones do not.
    assert by_profile["default"].outputs[0].nrmse > 100 * by_profile["strict"].outputs[0].nrmse
    assert by_profile["default"].outputs[0].nrmse < 0.1
    for page in (done.text, html.read_text()):
        assert "EMULATED" in page
    for case in done.run.cases:
        assert "none: an EMULATED device runs on this CPU" in render_case(case)


def test_other_kernels_of_the_emulator_change_the_error_and_are_in_the_record(harness_run, copy_of):
    options, cases = ["--device", "npu-emulated"], entry(copy_of("model"))
    plain = harness_run(*options, cases=cases)
    (default,) = plain.run.cases
    assert default.candidate.device.details["emulated_kernels"] == "cann"
    assert default.candidate.device.shown.endswith("EMULATED, kernels cann")
    assert "Device: Ascend910B3 EMULATED, kernels cann" in plain.text
    assert (plain.results / "history").exists()
    done = harness_run(*options, "--emulated-kernels", "sequential", cases=cases)
    (case,) = done.run.cases
    assert case.status is Status.PASS
    assert case.candidate.device.details["emulated_kernels"] == "sequential"
    assert done.run.run.settings["emulated_kernels"] == "sequential"
    assert case.outputs[0].nrmse != default.outputs[0].nrmse
    (line,) = (done.results / "history").glob("*")
    assert len(line.read_text().splitlines()) == 1  # of the default kernels
    resumed = harness_run(*options, f"--resume={done.results}", cases=cases)
    assert resumed.code == 4 and "emulated_kernels sequential" in resumed.text
    refused = harness_run("--device", "cpu", "--emulated-kernels", "sequential", cases=cases)
    assert refused.code == 4 and "works on the emulated NPU only" in refused.text


@pytest.mark.parametrize(
    ("mistake", "numerics", "said"),
    [
        ("conv_hf32_factors", "strict", "11 bits, ties to even, where float32 is declared"),
        ("hf32_truncated", "default", "11 bits, truncated, where float32 with HF32 is declared"),
    ],
)
def test_hf32_left_on_and_factors_cut_off_fail_on_canns_kernels(
    harness_run, copy_of, mistake, numerics, said
):
    cases = entry(copy_of("model")).replace('"strict"', f'"{numerics}"')
    kernels = "--emulated-kernels", f"cann+broken/{mistake}"
    done = harness_run("--device", "npu-emulated", *kernels, cases=cases)
    (case,) = done.run.cases
    assert done.code == 1 and case.status is Status.FAIL_ACCURACY
    assert said in case.reason
    assert any(not row.within for row in case.budgets), "end to end as well"
    assert case.localization.culprits[0].operator == "aten::convolution.default"


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ({"kind": "nan_output", "operator": "Convolution"}, "fail_nan", 1),
        ({"kind": "zero_output", "operator": "Convolution", "first": 3, "every": 1}, "fail", 1),
        ({"kind": "error_code", "operator": "Convolution", "first": 2}, "error_device", 10),
        ({"kind": "abort", "operator": "Convolution", "first": 2}, "error_crash", 10),
        ({"kind": "hang", "operator": "Convolution", "first": 2}, "error_timeout", 10),
    ],
)
def test_faults_of_the_device_have_their_status(
    harness_run, copy_of, tmp_path, fault, status, code
):
    done = harness_run(
        "--device", "npu-emulated", "--case-timeout", "20", plan(tmp_path, **fault),
        cases=entry(copy_of("model")),
    )  # fmt: skip
    (case,) = done.run.cases
    assert case.status.value.startswith(status), case.reason
    assert done.code == code
    if code == 10:
        assert case.stage.value in ("forward", "transfer", "synchronize")
        assert case.localization is None
        return
    culprit = case.localization.culprits[0]
    assert culprit.operator == "aten::convolution.default" and culprit.outputs
    assert "Where it goes wrong" in done.text and "Culprit: aten::convolution" in done.text
    assert 1 <= len(case.localization.reproducers) <= 3
    for script in case.localization.reproducers:
        assert (done.results / script).is_file()
        assert (done.results / script).with_suffix(".safetensors").is_file()


def test_device_npu_without_npu_is_exit_4_with_the_remedy(harness_run, copy_of):
    done = harness_run("--device", "npu", cases=entry(copy_of("m")), env={"LD_LIBRARY_PATH": ""})
    assert done.code == 4
    assert "set_env.sh" in done.text
    assert not done.results.exists()


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (None, Status.PASS),
        # A weight that is 5 % off: alone, its operator shows it whatever the noise end to end.
        ({"kind": "scale_weight", "operator": "Convolution", "magnitude": 1.05}, None),
    ],
)
def test_operators_one_by_one_see_below_the_noise_of_a_format(
    harness_run, copy_of, tmp_path, fault, status
):
    localize = "never" if fault else "always"
    options = ["--device", "npu-emulated", "--operator-share", "1", f"--localize={localize}"]
    if fault is not None:
        options.append(plan(tmp_path, **fault))
    done = harness_run(*options, cases=entry(copy_of("model"), dtype=["bfloat16"]))
    (case,) = done.run.cases
    assert case.operators.compared > 10
    if status is not None:
        assert (case.status, done.code) == (status, 0), case.reason
        assert case.operators.culprits == 0
        assert case.localization.culprits == [] and case.localization.reproduced is True
        assert "No culprit" in done.text
    else:
        assert case.status is Status.FAIL_ACCURACY
        assert any("operators compared one by one" in finding.reason for finding in case.findings)
        assert case.operators.worst[0].operator == "aten::convolution.default"
        assert "Operators one by one" in done.text
        assert case.localization is None


def test_a_fault_costs_its_case_and_the_next_is_right(harness_run, copy_of, tmp_path):
    faults = {
        "abort": ({"kind": "abort", "first": 2}, "error_crash"),
        "hang": ({"kind": "hang", "first": 2}, "error_timeout"),
        "aicore": ({"kind": "error_code", "first": 2}, "error_device"),
        "memory": ({"kind": "out_of_memory", "first": 2}, "error_oom"),
        # Half of the calls: three forwards of many convolutions do not agree by chance.
        "flaky": ({"kind": "noise_output", "probability": 0.5, "magnitude": 0.1}, "flaky"),
    }
    planted = [
        {"operator": "Convolution", **fault, "cases": f"{name}-*"}
        for name, (fault, _) in faults.items()
    ]
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({"faults": planted}))
    names = [name for fault in faults for name in (fault, f"after_{fault}")]
    done = harness_run(
        "--device", "npu-emulated", "--case-timeout", "30", "--localize", "never",
        f"--fault-plan={path}", cases="\n".join(entry(copy_of(name)) for name in names),
    )  # fmt: skip
    assert {name: case.status.value for name, case in done.cases.items()} == {
        **{name: status for name, (_, status) in faults.items()},
        **{f"after_{name}": "pass" for name in faults},
    }
    assert done.run.missing == []
    assert done.code == 1  # flaky is a verdict about the stack
    for name in ("abort", "hang", "aicore", "memory"):
        case = done.cases[name]
        assert case.stage.value in ("transfer", "forward", "synchronize"), case.reason
        assert case.reason


VIT = """
[[case]]
architecture = "test_vit"
num_classes = 50
numerics = ["strict"]
"""


@pytest.mark.parametrize("magnitude", [None, 1.0001])
def test_a_device_with_its_own_gelu_is_judged_for_that_form_with_full_power(
    harness_run, tmp_path, magnitude
):
    """torch_npu computes every gelu as tanh; test_vit asks for erf."""
    options = ["--device", "npu-emulated", "--localize", "always"]
    if magnitude is not None:
        fault = {"kind": "scale_output", "operator": "Gelu", "magnitude": magnitude}
        (tmp_path / "plan.json").write_text(json.dumps({"faults": [fault]}))
        options += ["--fault-plan", str(tmp_path / "plan.json")]
    done = harness_run(*options, cases=VIT)
    (case,) = done.run.cases
    assert case.candidate.numerics["gelu"] == "tanh"
    assert case.arithmetic == "float32 with every gelu as tanh"
    *planted, note = case.notes
    assert len(planted) == (magnitude is not None)
    assert "computes every gelu in its tanh form" in note
    cost = float(note.split("nrmse ")[1].split(";")[0])
    noise = max(budget.budget_nrmse for budget in case.budgets)
    assert cost > 10 * noise  # far more than rounding, and yet in no budget
    assert {budget.limit for budget in case.budgets} == {10}
    if magnitude is None:
        assert done.code == 0 and case.status is Status.PASS, done.text
        assert all(budget.ratio < 2 for budget in case.budgets)
        assert not case.localization.culprits
    else:
        assert done.code == 1 and case.status is Status.FAIL_ACCURACY
        assert {row.operator for row in case.localization.culprits} == {"aten::gelu.default"}


def test_a_device_that_computes_the_gelu_that_is_asked_is_held_to_float32(harness_run):
    done = harness_run(
        "--device", "npu-emulated", cases=VIT, env={"TORCH_NPU_USE_COMPATIBLE_IMPL": "1"}
    )
    (case,) = done.run.cases
    assert case.status is Status.PASS and case.arithmetic == "float32"
    assert "gelu" not in case.candidate.numerics and case.budgets[0].limit == 10
