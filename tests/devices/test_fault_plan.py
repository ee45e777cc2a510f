import json

import pytest

from harness.devices.fault_plan import idle_faults, plan_for, read_fault_plan
from harness.system.status import UsageProblem

PLAN = json.dumps(
    {
        "faults": [
            {"kind": "abort", "cases": "vit_*"},
            {"kind": "hang", "operator": "Gelu", "cases": "*-strict"},
            {"kind": "nan_output"},
        ]
    }
)


@pytest.mark.parametrize(
    ("case", "kinds"),
    [
        ("vit_tiny-float32-strict", ["abort", "hang", "nan_output"]),
        ("vit_tiny-float32-default", ["abort", "nan_output"]),
        ("resnet18-float32-default", ["nan_output"]),
        (None, ["abort", "hang", "nan_output"]),
    ],
)
def test_faults_are_confined_to_cases(case, kinds):
    faults = json.loads(plan_for(PLAN, case))["faults"]
    assert [fault["kind"] for fault in faults] == kinds
    assert all("cases" not in fault for fault in faults)


def test_a_case_without_faults_has_no_plan():
    plan = json.dumps({"faults": [{"kind": "abort", "cases": "vit_*"}]})
    assert plan_for(plan, "resnet18") is None


def test_faults_of_no_case_are_numbered_and_a_plan_of_none_is_refused():
    assert idle_faults(PLAN, ["resnet18-float32-default"]) == [1, 2]
    assert idle_faults(PLAN, ["vit_tiny-float32-strict"]) == []
    typo = json.dumps({"faults": [{"kind": "abort", "cases": "vti_*"}]})
    with pytest.raises(UsageProblem, match="concerns no case of this run.*'vti_.*vit_tiny"):
        idle_faults(typo, ["vit_tiny-float32-strict"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON|Expecting"),
        ("[]", "object with the list 'faults'"),
        ('{"faults": [{"kind": "abort", "cases": 3}]}', "must be a glob"),
        ('{"schema_version": 2, "faults": []}', "schema_version 2, this harness reads 1"),
        ('{"faults": [], "fault": 1}', "'fault' is unknown"),
        ('{"faults": [{"kind": "abort", "module": 3}]}', "'module' must be"),
        ('{"faults": [{"kind": "abort", "module": "a\\tb"}]}', "'module' must be"),
        ('{"faults": [{"kind": "abort", "operator": "aclnn"}]}', "'operator' must be"),
        ('{"faults": [{"kind": "slow", "magnitude": 1' + "0" * 400 + "}]}", "a finite number"),
        ('{"faults": [{"kind": "slow", "first": 1' + "0" * 40 + "}]}", "below 2"),
        ('{"faults": 3}', "object with the list 'faults'"),
        ('{"faults": [{"kind": ["abort"]}]}', "'kind' must be one of"),
        # Wrong in a fault that would concern no case of the run.
        ('{"faults": [{"kind": "abrot", "cases": "none"}]}', "'kind' must be one of"),
        ('{"faults": ["abort"]}', "must hold objects"),
    ],
)
def test_a_wrong_plan_is_refused_when_it_is_read(tmp_path, text, said):
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(UsageProblem, match=said):
        read_fault_plan(path)
