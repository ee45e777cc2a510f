"""Modules and functions of a user's own, judged by the public face; the device is the CPU."""

from __future__ import annotations

import dataclasses
import sys
import threading

import pytest
import torch
from torch import nn

from harness import api
from harness.records import results_file
from harness.system import torchvision_shim

OUTSIDE = nn.Linear(6, 3)
TENSOR = torch.ones(6)


@dataclasses.dataclass
class Found:
    boxes: torch.Tensor
    scores: tuple[torch.Tensor, ...]


class Towers(nn.Module):
    """Two inputs and a dict output."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(6, 8)
        self.right = nn.Linear(4, 8)
        self.register_buffer("shift", torch.full((8,), 0.5), persistent=False)

    def forward(self, x, y, *, scale=1.0):
        hidden = torch.relu(self.left(x) + scale * self.right(y) + self.shift)
        return {"sum": hidden.sum(-1), "found": Found(hidden, (hidden * 2, hidden[:, :2]))}


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def judge(module, inputs, **options) -> api.Judgement:
    return api.judge("cpu", module, inputs, **{"numerics": "strict", **options})


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_a_module_with_two_inputs_and_a_dict_output_passes_with_the_same_weights():
    module = Towers()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    given = api.Arguments(numbers(5, 6), y=numbers(5, 4, seed=1), scale=0.5)
    found = api.assert_same_on("cpu", module, given)
    record = found.record
    assert found and found.status == "pass" and record.status is api.Status.PASS
    assert [row.name for row in record.budgets] == [
        "output.sum",
        "output.found.boxes",
        "output.found.scores[0]",
        "output.found.scores[1]",
    ]
    assert all(0.3 < row.ratio < 3 for row in record.budgets)
    assert record.labels == [f"input {i}" for i in range(5)] and record.case.batch_size == 5
    assert "args[0] 5x6" in record.inputs and "y 5x4" in record.inputs
    assert record.reference.weights_sha256 == record.candidate.weights_sha256 != ""
    assert record.operators.complete and record.operators.compared >= 6
    # The user's module is as it was.
    assert module.training and all(torch.equal(module.state_dict()[n], before[n]) for n in before)


def test_rows_that_depend_on_each_other_are_one_input():
    rows = judge(lambda x: torch.softmax(x, 1), numbers(4, 6))
    mixed = judge(lambda x: torch.softmax(x, 0), numbers(4, 6))
    assert (len(rows.record.labels), len(mixed.record.labels)) == (4, 1)
    assert rows.record.outputs[0].shape == (4, 6) and mixed.record.outputs[0].shape == (1, 4, 6)
    assert rows.status == mixed.status == "pass"


def test_several_calls_of_a_function_are_samples_of_their_own():
    calls = [(numbers(3, 3, seed=i), numbers(3, 3, seed=9 + i)) for i in range(3)]
    found = judge(lambda a, b: (a @ b, (a * b).sum()), calls)
    assert found.status == "pass" and len(found.record.labels) == 3
    assert [row.shape for row in found.record.outputs] == [(3, 3, 3), (3,)]
    alike = judge(lambda a, b: a @ b, [calls[0], calls[0]])
    assert alike.status == "inconclusive"
    assert any("differ by 0 times" in finding.reason for finding in alike.record.findings)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_other_than_images_run_in_other_formats(dtype):
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.head = nn.Embedding(20, 16), nn.Linear(16, 5)

        def forward(self, ids, mask):
            return self.head((self.table(ids) * mask[..., None]).mean(1))

    ids = torch.arange(24).view(4, 6) % 20
    found = judge(Tokens(), {"ids": ids, "mask": ids > 3}, dtype=dtype)
    assert found.status == "pass" and found.record.arithmetic == dtype


def test_a_function_takes_the_modules_along_that_it_calls():
    found = judge(lambda x: OUTSIDE(x).tanh(), numbers(4, 6), name="with a module")
    assert found.status == "pass"
    assert found.record.candidate.weights_sha256 == found.record.reference.weights_sha256
    assert "2 tensors" in found.record.weights
    assert found.record.case_id == "with_a_module-given-n4-float32-b4-strict"


def test_two_of_one_class_have_names_of_their_own():
    ids = [judge(nn.Tanh(), numbers(2, 3)).record.case_id for _ in range(2)]
    assert ids == ["Tanh-given-n2-float32-b2-strict", "Tanh.2-given-n2-float32-b2-strict"]


def test_a_single_input_passes_where_all_operators_were_judged_and_only_there():
    judged = judge(lambda x: x.exp(), numbers(1, 6))
    assert judged.status == "pass" and any("1 operators" in note for note in judged.record.notes)
    solved = judge(lambda x: torch.linalg.inv(x).exp(), numbers(6, 6))
    assert solved.status == "inconclusive"
    assert "One input only" in solved.reason and "condition" in solved.reason


def test_without_float64_the_operators_decide():
    def in_float32(x):
        return torch.mm(x, torch.ones(6, 2, dtype=torch.float32))

    found = judge(in_float32, numbers(4, 6))
    assert found.status == "pass" and found.record.budgets == []
    assert any("does not run in float64" in note for note in found.record.notes)

    def inverted(x):
        return torch.linalg.inv(torch.mm(x, torch.eye(6, dtype=torch.float32)))

    refused = judge(inverted, numbers(6, 6))
    assert refused.status == "inconclusive" and "does not run in float64" in refused.reason


def test_an_output_that_is_zero_for_an_input_is_right():
    found = judge(torch.relu, torch.stack([-numbers(6).abs(), numbers(6).abs()]))
    assert found.status == "pass"


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x * self.calls


class Holds(nn.Module):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()

    def forward(self, x):
        return x * 2


@pytest.mark.parametrize(
    ("module", "inputs", "said"),
    [
        (lambda x: x + torch.rand_like(x), numbers(4, 6), "random numbers (aten::rand_like"),
        (lambda x: nn.functional.dropout(x, 0.5), numbers(4, 6), "random numbers"),
        (lambda x: x.mul_(2), numbers(4, 6), "changes its input args[0] in place"),
        (lambda x: 3, numbers(4, 6), "returns a int"),
        (lambda x: None, numbers(4, 6), "gives no tensor"),
        (Counts(), numbers(4, 6), "other results when it runs again"),
        (Holds(), numbers(4, 6), "cannot be pickled"),
        (lambda x: x @ TENSOR, numbers(4, 6), "the tensor 'TENSOR' from outside"),
        (lambda x: x @ x, numbers(4, 6), "does not run on the CPU with these inputs"),
        (nn.Tanh(), [numbers(4, 6), numbers(5, 6)], "differ in more than the numbers"),
        (nn.Tanh(), (3, "text"), "no tensor among the inputs"),
        (nn.Tanh(), torch.zeros(2, 2, dtype=torch.complex64), "as a complex"),
        ("resnet50", numbers(4, 6), "A str cannot be judged"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_a_sentence(module, inputs, said):
    with pytest.raises(api.UsageProblem) as problem:
        judge(module, inputs)
    assert said in str(problem.value) and "\n" not in str(problem.value)


@pytest.mark.parametrize(
    ("options", "said"), [({"dtype": "float8"}, "float8"), ({"numerics": "loose"}, "loose")]
)
def test_a_bad_option_is_refused_in_a_sentence(options, said):
    with pytest.raises(api.UsageProblem, match=said):
        judge(nn.Tanh(), numbers(2, 3), **options)


def test_dropout_that_is_off_is_not_random():
    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

        def forward(self, x):
            return self.inner(x)

    assert judge(Attends(), numbers(3, 4, 8)).status == "pass"


def test_records_go_to_a_folder_and_are_read_back(tmp_path):
    found = judge(nn.Tanh(), numbers(3, 4), results=tmp_path)
    (read,) = results_file.read(tmp_path / "results.jsonl").cases
    assert read.model_dump_json() == found.record.model_dump_json()


def test_a_notebook_shows_the_case_in_a_style_that_reaches_nothing_else():
    html = judge(nn.Tanh(), numbers(3, 4), name="<b>mine")._repr_html_()
    assert "<b>mine" not in html and "_b_mine-given-n3" in html
    assert html.count("<style>@scope (.harness-alone) {") == html.count("<style>") == 1
    assert ":root" not in html and "\nbody {" not in html


def test_a_model_of_torchvision_is_judged():
    torchvision_shim.ensure()
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    from torchvision.models import shufflenet_v2_x0_5

    found = judge(shufflenet_v2_x0_5(weights=None), numbers(2, 3, 64, 64))
    assert found.record.budgets and found.status == "pass"


def test_a_model_of_transformers_is_judged(monkeypatch):
    # Where torch_npu is installed and CANN is not, transformers cannot be imported beside it.
    monkeypatch.setitem(sys.modules, "torch_npu", None)
    transformers = pytest.importorskip(
        "transformers", reason="transformers is not installed (extra `transformers`)"
    )
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64,
    )  # fmt: skip
    ids = torch.arange(24).view(3, 8) % 50
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    found = judge(transformers.BertModel(config), inputs)
    assert found.status == "pass"
    assert {row.name for row in found.record.budgets} == {
        "output.last_hidden_state",
        "output.pooler_output",
    }
