"""Which faults are planted in a model with these operators."""

import json

from harness.detection import catalogue
from harness.devices.fault_plan import FaultPlan
from tests.makers.detection import OPERATORS


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
