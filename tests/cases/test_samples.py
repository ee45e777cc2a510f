"""Arguments of a forward pass: where tensors go, and samples in batches."""

import collections
import dataclasses

import pytest
import torch

from harness.cases.samples import Arguments, Samples, stacked

Pair = collections.namedtuple("Pair", "left right")


@dataclasses.dataclass
class Boxes:
    corners: torch.Tensor
    kind: str = "xyxy"


def call(*args, **kwargs):
    return args, kwargs


@pytest.mark.parametrize(
    ("given", "args", "kwargs"),
    [
        (torch.ones(2), 1, 0),
        ((torch.ones(2), 3), 2, 0),
        ({"x": torch.ones(2), "flag": True}, 0, 2),
        (Pair(torch.ones(2), torch.ones(2)), 1, 0),
        ({1: torch.ones(2)}, 1, 0),
        (collections.UserDict(x=torch.ones(2)), 0, 1),
        (Arguments(torch.ones(2), flag=True), 1, 1),
    ],
)
def test_tuples_are_positions_and_mappings_names(given, args, kwargs):
    found = Arguments.of(given)
    assert (len(found.args), len(found.kwargs)) == (args, kwargs)


def test_tensors_are_found_inside_and_go_back_where_they_were():
    a, b, c, d = (torch.full((2,), float(i)) for i in range(4))
    given = Arguments([a, {"k": b}], Pair(3, c), boxes=Boxes(d))
    assert list(given.tensors()) == ["args[0][0]", "args[0][1].k", "args[1].right", "boxes.corners"]
    samples = stacked([given, given])
    assert len(samples) == 2 and samples.apart
    args, kwargs = samples.rows(slice(1)).call(call)
    assert torch.equal(args[0][1]["k"], b) and args[1].left == 3 and type(args[1]) is Pair
    assert torch.equal(kwargs["boxes"].corners, d) and kwargs["boxes"].kind == "xyxy"


@pytest.mark.parametrize(
    "other", [(torch.ones(3), 1), (torch.ones(2).int(), 1), (torch.ones(2), 2), (torch.ones(2),)]
)
def test_calls_of_another_form_do_not_stand_together(other):
    assert stacked([Arguments(torch.ones(2), 1), Arguments.of(other)]) is None


def test_batches_rows_and_fillings():
    x = torch.arange(10.0).view(5, 2)
    samples = Samples.of(x)
    assert [len(batch) for batch in samples.batches(2)] == [2, 2, 1] and samples.shape == (5, 2)
    assert torch.equal(samples.backwards().call(lambda x: x), x.flip(0))
    assert torch.equal(samples.filled(4).call(lambda x: x), x[[0, 1, 2, 3, 4, 0, 1, 2]])
    apart = dataclasses.replace(samples, apart=True)
    assert [batch.call(lambda x: x).tolist() for batch in apart.batches(1)] == x.tolist()
