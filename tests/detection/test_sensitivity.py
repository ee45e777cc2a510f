"""Detection power: catalogue, counting, bisection, and small real runs."""

import json

import pytest
import torch

from harness.cases.case import Case, InputSource, ModelSource
from harness.detection import catalogue, sensitivity
from harness.detection.sensitivity import smallest_caught
from harness.devices.fault_plan import Fault, FaultPlan
from harness.devices.spec import DeviceSpec
from harness.execution.fault_hooks import PlannedFaults, operator_name
from harness.execution.settings import RunSettings
from harness.execution.sides import Sides
from harness.records import results_file
from harness.report import text
from harness.report.html import fragments
from harness.report.tables import detection
from harness.system.status import Status
from tests.makers.detection import OPERATORS, counted
from tests.makers.records import case_record


def planned(operators=OPERATORS):
    return {(fault.name, fault.depth): fault for fault in catalogue.instantiate(operators)}


def only(fault) -> dict:
    (found,) = json.loads(fault.plan)["faults"]
    return found


def test_faults_act_at_their_depth_in_every_forward_pass():
    for depth, call in (("early", 3), ("middle", 11), ("late", 19)):
        fault = planned()["weight halved", depth]
        assert (fault.operator, fault.call, fault.calls) == ("Convolution", call, 21)
        assert only(fault) == {
            "kind": "scale_weight", "operator": "Convolution", "first": call, "every": 21,
            "magnitude": 0.5,
        }  # fmt: skip


def test_every_call_is_hit_where_the_entry_says_so():
    fault = planned()["bias dropped", "every"]
    assert fault.call == 0
    assert only(fault) == {"kind": "drop_bias", "operator": "Convolution"}


def test_the_evidence_faults_are_in_the_catalogue():
    names = {name for name, _ in planned()}
    assert {
        "weight halved", "weight x1.5", "last 16 channels zero", "one channel zero",
        "normalisation mean off by 0.1 std", "last item gets item 0's result",
        "batch moves on by one item", "input channels BGR", "output zero", "one NaN",
    } <= names  # fmt: skip


def test_every_plan_is_one_that_the_emulator_reads_and_no_two_are_equal():
    plans = [fault.plan for fault in catalogue.instantiate(OPERATORS)]
    assert len(set(plans)) == len(plans)
    for plan in plans:
        for fault in FaultPlan.from_json(plan).faults:
            assert fault.operator in OPERATORS


def test_other_operators_are_each_made_wrong_once_and_copies_are_not():
    extra = planned({**OPERATORS, "InplaceCopy": 4, "Sigmoid": 2, "Swish9": 6})
    wrong = {name for name, _ in extra if name.endswith(" x1.01")}
    assert {"Mean x1.01", "Sigmoid x1.01", "Swish9 x1.01"} <= wrong
    assert "InplaceCopy x1.01" not in wrong


def test_a_model_of_matrix_products_gets_faults_there():
    faults = planned({"Addmm": 49, "LayerNorm": 25, "Gelu": 12, "Convolution": 1})
    assert faults["weight halved", "middle"].operator == "Addmm"
    assert faults["classifier weight x1.5", "last"].call == 49
    assert ("normalisation output x1.01", "late") in faults


def test_coinciding_depths_are_planted_once():
    faults = planned({"Convolution": 1})
    assert [depth for name, depth in faults if name == "weight halved"] == ["early"]


def test_calls_are_those_of_one_forward_pass():
    assert sensitivity.per_forward({"Convolution": 42, "Cast": 1}, 6, 4) == {"Convolution": 21}


def test_counting():
    found = counted()
    assert found.effective == 4  # what changed nothing is no fault
    assert found.missed == 1
    assert found.missed_by_gate == 2
    assert found.inconclusive == 1  # neither caught nor accepted


def test_the_record_keeps_it_and_the_reports_show_both_columns(tmp_path):
    case = case_record(sensitivity=counted(), emulated=True)
    path = tmp_path / "results.jsonl"
    results_file.append(path, case)
    (read,) = results_file.read(path).cases
    assert read.sensitivity == counted()
    table = detection.table(read)
    assert "EMULATED" in table.title
    assert ("documented gate", "this harness") == table.header[2:4]
    assert table.rows[0][2:] == ("PASSED", "fail_accuracy", "50")
    assert table.rows[1][2:4] == ("PASSED", "PASSED")
    assert table.rows[2][2:4] == ("no effect", "no effect")
    assert table.rows[4][2:] == ("failed", "fail_nan", "not a number")
    for page in (text.render_case(read), fragments.render_case(read)):
        assert "the documented gate passed 2, this harness 1" in page
        assert "3e-05" in page


@pytest.mark.parametrize("border", [3.3e-6, 1e-4, 0.02, 0.9])
def test_bisection_finds_the_border_of_a_detector(border):
    asked = []

    def caught(size: float) -> bool:
        asked.append(size)
        return size >= border

    found = smallest_caught(caught, 1e-6, 1.0, 6)
    assert border <= found <= border * 1e6 ** (1 / 64) * 1.001
    assert len(asked) == 8


def test_bisection_at_its_ends():
    assert smallest_caught(lambda size: False, 1e-6, 1.0, 6) is None
    assert smallest_caught(lambda size: True, 1e-6, 1.0, 6) == 1e-6


def test_a_limit_spreads_over_the_whole_catalogue():
    faults = catalogue.instantiate(OPERATORS)
    few = sensitivity.spread_over(faults, 5)
    assert len(few) == 5
    assert faults.index(few[-1]) > 0.7 * len(faults)
    assert sensitivity.spread_over(faults, None) == faults


def hooked(module, data, *faults):
    mode = PlannedFaults(FaultPlan(faults).to_json())
    with torch.no_grad(), mode:
        result = module(data)
    return result, mode.counters


@pytest.fixture
def net():
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(inplace=True),
        torch.nn.Conv2d(8, 4, 1, bias=False), torch.nn.Flatten(), torch.nn.Linear(4 * 36, 5),
    )  # fmt: skip
    return layers.eval()


def test_hooks_count_operators_by_cann_names(net):
    _, counters = hooked(net, torch.rand(2, 3, 8, 8))
    assert counters.operators == {
        "Convolution": 2, "BatchNorm": 1, "InplaceRelu": 1, "Addmm": 1,
    }  # fmt: skip
    assert operator_name(torch.ops.aten.hardtanh_.default) == "InplaceHardtanh"


@pytest.mark.parametrize(
    "fault",
    [
        Fault("scale_weight", "Convolution", first=2, magnitude=0.5),
        Fault("scale_weight", "Addmm", magnitude=2.0, index=7),
        Fault("swap_channels", "Convolution"),
        Fault("drop_bias", "Addmm"),
        Fault("drop_bias", "Convolution"),
        Fault("stale_mean", "BatchNorm"),
        Fault("scale_output", "InplaceRelu"),
        Fault("noise_output", "Convolution"),
        Fault("zero_channels", "BatchNorm", magnitude=1),
        Fault("nan_output", "Addmm", index=3),
        Fault("permute_batch", "Addmm"),
        Fault("duplicate_first_item", "Convolution"),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.operator}",
)
def test_hooks_change_the_result_and_say_so(net, fault):
    data = torch.rand(3, 3, 8, 8)
    clean, _ = hooked(net, data)
    faulty, counters = hooked(net, data, fault)
    assert counters.fault_effects[0] >= 1
    assert not torch.equal(clean, faulty)
    again, _ = hooked(net, data)
    assert torch.equal(clean, again)  # the model itself stays as it was


def test_hooks_say_when_a_fault_never_acted(net):
    data = torch.rand(2, 3, 8, 8)
    clean, _ = hooked(net, data)
    for fault in (
        Fault("scale_output", "Convolution", first=9),
        Fault("scale_weight", "Convolution", batch_over=4),
        Fault("saturate", "*"),
        Fault("bit_flip", "Convolution"),
    ):
        faulty, counters = hooked(net, data, fault)
        assert counters.fault_effects == (0,)
        assert torch.equal(clean, faulty)


def test_the_last_item_gets_the_first_ones_result(net):
    data = torch.rand(3, 3, 8, 8)
    clean, _ = hooked(net, data)
    faulty, _ = hooked(net, data, Fault("duplicate_first_item", "Addmm"))
    assert torch.equal(faulty[:2], clean[:2])
    assert torch.equal(faulty[2], clean[0])


def small_case(tiny_model, numerics="strict") -> Case:
    return Case(
        ModelSource("directory", str(tiny_model)), InputSource("synthetic"), numerics=numerics
    )


@pytest.mark.parametrize("device", ["npu-emulated", "cpu"])
def test_strict_float32_catches_every_effective_fault(tiny_model, cache_dir, device):
    sides = Sides(RunSettings(DeviceSpec(device), cache_dir))
    try:
        found = sensitivity.measure(sides, small_case(tiny_model), limit=24)
    finally:
        sides.close()
    assert found.problem == ""
    assert found.clean is Status.PASS
    assert found.emulated == (device == "npu-emulated")
    assert found.effective >= 18
    assert found.missed == found.inconclusive == 0
    assert found.missed_by_gate >= 1
    # Half a unit in the last place is invisible, a thousandth is not.
    assert 1e-6 <= found.weight_error < 1e-3


def test_a_case_that_fails_anyway_says_why_nothing_was_measured(copy_of, cache_dir):
    broken = copy_of("broken")
    (broken / "model.safetensors").write_bytes(b"no weights")
    sides = Sides(RunSettings(DeviceSpec("cpu"), cache_dir))
    try:
        found = sensitivity.measure(sides, small_case(broken))
    finally:
        sides.close()
    assert found.clean is Status.FAIL_LOAD
    assert found.rows == ()
    assert "model.safetensors" in found.problem


def test_the_option_measures_and_reports(harness_run, tiny_model):
    cases = f'[[case]]\ndirectory = "{tiny_model}"\ninputs = ["synthetic"]\n'
    done = harness_run(
        "--device", "cpu", "--sensitivity", "--numerics", "strict", "--dtype", "float16",
        cases=cases,
    )  # fmt: skip
    assert done.code == 0, done.text
    (case,) = done.run.cases
    assert case.sensitivity.effective > 50
    # float16's own noise hides some faults: the number is reported, not rounded away.
    assert 0 <= case.sensitivity.missed < case.sensitivity.effective / 4
    assert f"this harness {case.sensitivity.missed} (" in done.text
    assert "hooks on the CPU, in the arithmetic of cpu" in done.text
