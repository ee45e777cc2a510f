"""What is said of models without a device: ten accepted, five refused, one unknown."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from harness.cases.models import loading
from harness.entry.commands.main import main
from harness.qualification import shapes_only, support
from harness.upgrade.precheck import coverage
from tests.makers import refused

MADE = Path(refused.__file__)
# A family each of convolutions, attention (whole and in parts), windows, gates and pools.
MODELS = (
    "resnet18 efficientnet_b0 mobilenetv3_small_050 convnext_atto vit_tiny_patch16_224 "
    "swin_tiny_patch4_window7_224 xcit_nano_12_p16_224 hiera_tiny_224 mobilevit_xxs "
    "edgenext_xx_small"
).split()
# torch_npu's own extras, which move or fill: behind a softmax, to make tensors contiguous.
EXTRAS = {"IsNegInf", "All", "InplaceFillScalar", "SWhere", "InplaceCopy", "InplaceZero"}


def built(name):
    with shapes_only.Unfilled():
        model, _ = loading.build({"architecture": name}, None, name)
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_ten_models_are_accepted_in_three_dtypes(name):
    model = built(name)
    images = torch.empty(2, *model.pretrained_cfg["input_size"])
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        found = support.examine(name, model, (images,), dtype)
        assert (found.answer, found.objections, found.stopped) == ("accepted", (), "")
        assert found.calls > 30


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "xcit_nano_12_p16_224"])
def test_the_operators_are_those_that_the_emulator_saw(name):
    entry = coverage.architectures().get(name)
    if entry is None:
        pytest.skip("not surveyed")
    found = support.examine(name, built(name), (torch.empty(4, *entry["input_size"]),), None)

    def counted(operators):
        """Without extras; in place or not is the same operator."""
        counts = {}
        for operator, calls in operators.items():
            if operator not in EXTRAS:
                base = operator.removeprefix("Inplace")
                counts[base] = counts.get(base, 0) + calls
        return counts

    assert counted(found.operators) == counted(entry["operators"])


@pytest.mark.parametrize("name", refused.REFUSED)
def test_five_modules_are_refused_each_with_its_rule(name):
    operator, argument, problem = refused.REFUSED[name]
    module = getattr(refused, name)()
    found = support.examine(name, module, (module.example_inputs,), None)
    assert found.answer == "refused" and support.code([found]) == 1
    (objection,) = found.objections
    assert objection.operator == f"aclnn{operator}" and problem in objection.rule
    assert objection.rule.startswith(argument) and "CANN" in objection.source
    assert objection.module == ("conv" if name == "Float64" else "(model)")
    assert objection.remedy and objection.call.startswith(("aten::", "npu::"))


def test_what_is_in_no_table_is_unknown_and_never_accepted():
    module = refused.Determinant()
    found = support.examine("det", module, (module.example_inputs,), None)
    assert (found.answer, support.code([found])) == ("unknown", 12)
    assert [one.call for one in found.objections] == ["aten::_linalg_det.default(float32[3, 3])"]


def test_a_pass_that_needs_values_is_unknown():
    class Looks(nn.Module):
        def forward(self, x):
            return x * 2 if x.sum() > 0 else x

    found = support.examine("looks", Looks(), (torch.ones(2),), None)
    assert found.answer == "unknown" and "looks at values" in found.stopped
    assert found.calls == 1 or found.calls == 2


def test_named_inputs():
    class Named(nn.Module):
        def forward(self, one, *, other):
            return one + other.relu()

    inputs = {"one": torch.ones(2), "other": torch.ones(2)}
    found = support.examine("named", Named(), inputs, torch.float16)
    assert (found.answer, found.operators) == ("accepted", {"Relu": 1, "Add": 1})


def test_refused_wins_over_unknown_and_alike_calls_are_one():
    class Both(nn.Module):
        def forward(self, x):
            torch.linalg.det(x)
            return torch.relu(torch.relu(x.short()).short())

    found = support.examine("both", Both(), (torch.ones(3, 3),), None)
    assert found.answer == "refused" and support.code([found]) == 1
    assert {one.answer: one.times for one in found.objections} == {"unknown": 1, "refused": 2}


def test_initialisers_that_draw_until_it_fits_end_and_nothing_is_drawn():
    kept = [torch.full((1 << 20,), float("nan")) for _ in range(4)]
    del kept  # memory that is given again holds what lies out of any bound
    with shapes_only.Unfilled():
        drawn = nn.init.trunc_normal_(torch.empty(1024, 1024), a=-1.0, b=1.0)
        small = nn.init.trunc_normal_(torch.empty(8), a=-1.0, b=1.0)
    assert not drawn.any() and small.any() and drawn.is_contiguous()


def test_weights_are_not_filled_and_not_changed():
    model = nn.Linear(512, 512)
    before = model.weight.detach().clone()
    support.examine("linear", model, (torch.ones(1, 512),), torch.float16)
    assert torch.equal(model.weight, before) and model.weight.dtype == torch.float32


def test_the_command_answers_with_the_code_and_all_that_is_needed(capsys):
    names = ("Rank9", "Plain", "pair")
    assert main(["support", *(f"--module={MADE}:{name}" for name in names)]) == 1
    said = capsys.readouterr()
    assert "Running" in said.err and "code" in said.err
    for part in ("refused", "accepted", "rule: aclnnExp self: 9 dimensions", "aclnn_exp.cpp",
                 "remedy: reshape"):  # fmt: skip
        assert part in said.out
    assert main(["support", f"--module={MADE}:Plain", "--dtype", "float16"]) == 0
    assert main(["support", f"--module={MADE}:Plain", "--dtype", "float64"]) == 1
    assert main(["support", f"--module={MADE}:Determinant"]) == 12


def test_the_command_prints_one_document(capsys):
    code = main(["support", "--json", "--model", "resnet18", f"--module={MADE}:Int16Relu"])
    model, module = json.loads(capsys.readouterr().out)
    assert (code, model["answer"], module["answer"]) == (1, "accepted", "refused")
    assert model["operators"]["Convolution"] == 20
    assert module["objections"][0]["rule"].startswith("self: int16 is none of")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Give support a --model"),
        (["--module", "nowhere.py:Name"], "there is no file nowhere.py"),
        (["--module", "name"], "is not FILE:NAME"),
        ([f"--module={MADE}:Nothing"], "defines no Nothing"),
        ([f"--module={MADE}:number"], "gave int"),
        ([f"--module={MADE}:broken"], "raised ValueError: no way"),
        (["--model", "nowhere/at-all"], "is no directory here"),
    ],
)
def test_bad_input_is_one_sentence(arguments, said, capsys):
    assert main(["support", *arguments]) == 4
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ") and said in last


def test_an_unknown_architecture_is_named(capsys):
    assert main(["support", "--model", "resnet18x"]) == 1
    assert "resnet18" in capsys.readouterr().err
