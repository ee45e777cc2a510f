"""The table of what CANN accepts: every row can be read, and known calls get the known answer."""

import re

import pytest

from harness.devices import contract
from harness.devices.contract import Tensor

F32 = "float32"
LIMIT = re.compile(
    r"(each|sizes) \d+\.\.\d*|same dtype as \w+|dtype or float32 of \w+|broadcasts with \w+|"
    r"same value as \w+|at most \w+|at most half of \w+"
)


def test_every_row_can_be_read_and_checked():
    rules = [rule for own in contract.rules().values() for rule in own]
    assert len(contract.rules()) >= 250
    for rule in rules:
        assert rule.limit == "" or LIMIT.fullmatch(rule.limit), rule
        assert rule.ranks is None or 0 <= rule.ranks[0] <= rule.ranks[1] <= 8, rule
        assert (rule.dtypes or rule.limit) and rule.code // 1000 == 161, rule
        assert rule.basis in ("read", "doc") and rule.tag and "/" in rule.source, rule
        assert rule.source.endswith(".md" if rule.basis == "doc" else ".cpp"), rule
        limits = rule.limit.rpartition(" ")[2] if rule.limit[:4] in ("same", "dtyp") else ""
        assert not limits or any(limits == other.argument for other in rules), rule


@pytest.mark.parametrize(
    ("operator", "arguments", "problem"),
    [
        ("Relu", {"self": [Tensor("int16", (2,))]}, "int16 is none of float32"),
        ("Relu", {"self": [Tensor("float64", (2,))]}, "float64 is none of"),
        ("Mean", {"self": [Tensor("bool", (2,))]}, "bool is none of"),
        ("Exp", {"self": [Tensor(F32, (2,) * 9)]}, "9 dimensions are not in 0..8"),
        ("VarMean", {"self": [Tensor("bfloat16", (2,))]}, "bfloat16 is none of"),
        ("Mm", {"self": [Tensor(F32, (2, 2, 2))]}, "3 dimensions are not in 2..2"),
        ("FlashAttentionScore", {"head_size": [1024]}, "the value 1024 is not in 1..768"),
        (
            "FlashAttentionScore",
            {"head_size": [64], "key_head_size": [32]},
            "the value 32 is not the same as head_size, 64",
        ),
        (
            "FlashAttentionScore",
            {"head_size": [64], "value_head_size": [128]},
            "the value 128 is not at most head_size, 64",
        ),
        ("Convolution", {"padding": [0, 256]}, "the value 256 is not in 0..255"),
        ("Convolution", {"stride": [0, 1]}, "the value 0 is not in 1.."),
        (
            "Convolution",
            {"input": [Tensor(F32, (1, 3, 1, 1_000_001))]},
            "the size 1000001 is not in 0..1000000",
        ),
        (
            "AvgPool2d",
            {"kernel_size": [3], "padding": [1, 2]},
            "the value 2 is not at most half of kernel_size, 3",
        ),
        (
            "GroupNorm",
            {"self": [Tensor("float16", (1, 4, 2))], "gamma": [Tensor(F32, (4,))]},
            "float32 is not the dtype of self, float16",
        ),
        (
            "LayerNorm",
            {"input": [Tensor("float16", (1, 4))], "bias": [Tensor("bfloat16", (4,))]},
            "bfloat16 is neither float32 nor the dtype of input, float16",
        ),
        (
            "Add",
            {"self": [Tensor(F32, (2, 3))], "other": [Tensor(F32, (2, 2))]},
            "its shape does not broadcast with that of self",
        ),
    ],
)
def test_what_is_refused_says_why(operator, arguments, problem):
    (refusal,) = contract.refusals(operator, arguments)
    assert problem in refusal.problem
    assert str(refusal).startswith(f"aclnn{operator} refuses ") and "CANN" in str(refusal)


@pytest.mark.parametrize(
    ("operator", "arguments"),
    [
        ("Relu", {"self": [Tensor("bfloat16", (2,) * 8)]}),
        ("LayerNorm", {"input": [Tensor("float16", (1, 4))], "weight": [Tensor(F32, (4,))]}),
        ("LayerNorm", {"input": [Tensor("float16", (1, 4))]}),
        ("Add", {"self": [Tensor(F32, (2, 1))], "other": [Tensor("float16", (3,))]}),
        ("MaxPool2dWithMask", {"kernel_size": [3, 3], "padding": [1, 1], "dilation": [1, 1]}),
    ],
)
def test_what_is_accepted(operator, arguments):
    assert contract.refusals(operator, arguments) == []
    assert contract.unruled(operator, arguments) == []


def test_a_tensor_without_a_row_is_named_and_results_are_not_asked_about():
    given = {"self": [Tensor(F32, (2,))], "other": [Tensor(F32, (2,))], "dim": [0]}
    assert contract.unruled("Relu", {**given, "out": given["self"]}) == ["other"]
    assert contract.unruled("NoSuchOperator", given) == ["self", "other"]


def test_the_wire_has_a_line_for_every_rule():
    lines = contract.to_wire().splitlines()
    assert len(lines) == sum(map(len, contract.rules().values()))
    assert {len(line.split("\t")) for line in lines} == {8}
