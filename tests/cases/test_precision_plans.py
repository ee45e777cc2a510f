import json

import pytest
import torch
from torch import nn

from harness import api
from harness.cases import precision_plans
from harness.cases.precision_plans import PrecisionPlan
from harness.system import files
from harness.system.status import UsageProblem


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))).eval()


def plan(**changes):
    known = {
        "model": "tiny",
        "weights_sha256": files.sha256_tensors(model().state_dict()),
        "dtype": "bfloat16",
        "modules": ["1.0"],
    }
    return PrecisionPlan(**known | changes)


def test_a_plan_comes_back_from_its_file_and_is_applied(tmp_path):
    path = tmp_path / "plan.json"
    precision_plans.write(plan(observed={"error_rate": 0.5}), path)
    assert precision_plans.read(path) == plan(observed={"error_rate": 0.5})
    applied = api.apply_plan(model(), path)
    assert applied[1][0].weight.dtype is torch.float32
    assert applied[0].weight.dtype is applied[1][1].weight.dtype is torch.bfloat16
    assert applied(torch.randn(2, 4).bfloat16()).dtype is torch.bfloat16


def test_the_digest_is_of_what_a_plan_does():
    assert precision_plans.digest(plan()) == precision_plans.digest(plan(target="error_rate<1"))
    assert precision_plans.digest(plan()) != precision_plans.digest(plan(modules=["1"]))
    assert precision_plans.digest(plan()) != precision_plans.digest(plan(dtype="float16"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weights_sha256": "0" * 64}, "made for another model (tiny, weights 000000000000; "),
        (
            {"modules": ["1.00"]},
            "names 1.00, and the model has no such module (did you mean 1.0?): correct",
        ),
    ],
)
def test_a_plan_of_another_model_is_refused(changes, said):
    with pytest.raises(UsageProblem, match=".") as problem:
        api.apply_plan(model(), plan(**changes))
    assert said in str(problem.value)


def test_a_model_that_was_cast_before_is_refused():
    with pytest.raises(UsageProblem, match="not in float32"):
        api.apply_plan(model().half(), plan())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no plan: it is not JSON"),
        ("[]", "is no precision plan"),
        ('{"type": "precision-plan", "schema_version": 9}', "has schema version 9"),
        ({"modules": []}, "modules: List should have at least 1 item"),
        ({"modules": ["a", "a.b"]}, "modules: a.b lies in a, which is named as well."),
        ({"modules": ["a", "a"]}, "modules: a module is named twice."),
        ({"modules": ["../a"]}, "modules.0: String should match pattern"),
        ({"dtype": "float64"}, "dtype: Input should be 'float16', 'bfloat16' or 'float32'"),
        ({"else": 1}, "else: Extra inputs are not permitted"),
    ],
)
def test_what_is_no_plan_is_said_in_a_sentence(tmp_path, content, said):
    path = tmp_path / "plan.json"
    if isinstance(content, dict):
        content = json.dumps(json.loads(precision_plans.text(plan())) | content)
    path.write_text(content)
    with pytest.raises(UsageProblem) as problem:
        precision_plans.read(path)
    assert said in str(problem.value) and "\n" not in str(problem.value)


def test_a_plan_that_is_not_there_is_said(tmp_path):
    with pytest.raises(UsageProblem, match="cannot be read: No such file"):
        precision_plans.read(tmp_path / "none.json")
