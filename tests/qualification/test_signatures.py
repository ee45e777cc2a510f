import math

import pytest
import torch

from harness.execution.operators.calls import Call
from harness.qualification import signatures
from harness.qualification.signatures import Layout

aten = torch.ops.aten


def text(func, *args, **kwargs) -> str:
    return signatures.of_call(Call(func, args, kwargs)).text


def test_a_signature_tells_how_each_tensor_lies_in_memory():
    base = torch.empty(2, 3, 4, 8)
    moved = base.permute(0, 2, 1, 3)[..., 4:]
    assert text(aten.add.Tensor, base, moved) == (
        '["aten::add.Tensor",["%float32[2,3,4,8]","%float32[2,4,3,4]{96,8,32,1}+4"],{}]'
    )


def test_strides_of_one_element_say_nothing():
    plain, odd = torch.empty(1, 4), torch.empty(4).as_strided((1, 4), (77, 1))
    assert text(aten.relu.default, odd) == text(aten.relu.default, plain)


def test_the_same_tensor_twice_is_told_from_two_alike():
    x, y = torch.empty(3), torch.empty(3)
    assert text(aten.mul.Tensor, x, x) == '["aten::mul.Tensor",["%float32[3]","%=0"],{}]'
    assert text(aten.mul.Tensor, x, y) == '["aten::mul.Tensor",["%float32[3]","%float32[3]"],{}]'


@pytest.mark.parametrize(
    ("func", "args", "kwargs"),
    [
        (aten.mul.Tensor, (torch.ones(2, 3).T, torch.ones(3, 2)), {}),
        (aten.cat.default, ([torch.ones(2), torch.ones(3)],), {"dim": -1}),
        (aten._to_copy.default, (torch.ones(2),), {"dtype": torch.float16}),
        (aten.clone.default, (torch.ones(2, 2).T,), {"memory_format": torch.contiguous_format}),
        (aten.full.default, ([2, 2], -math.inf), {"device": torch.device("cpu")}),
        (aten.index.Tensor, (torch.ones(4), [torch.tensor([1, 2])]), {}),
    ],
)
def test_a_signature_read_back_makes_the_same_call(func, args, kwargs):
    written = signatures.of_call(Call(func, args, kwargs))
    read = signatures.parse(written.text)
    assert read.text == written.text and read.id == written.id
    made = read.call(
        lambda _, layout: torch.empty(layout.extent, dtype=layout.dtype).as_strided(
            layout.shape, layout.strides, layout.offset
        )
    )
    assert signatures.of_call(made).text == written.text
    assert made.func is func


def test_a_reused_tensor_stays_one_object_in_the_call():
    x = torch.ones(3)
    read = signatures.parse(text(aten.mul_.Tensor, x, x))
    made = read.call(lambda _, layout: torch.ones(layout.shape))
    assert made.args[0] is made.args[1]
    assert len(read.layouts()) == 1


@pytest.mark.parametrize(
    "bad", ["{}", '["a",[],[]]', '["a",["%float9[2]"],{}]', '["a",["%=0"],{}]', "nothing"]
)
def test_what_is_no_signature_is_refused(bad):
    with pytest.raises(ValueError):
        signatures.parse(bad)


def test_the_extent_of_a_view_reaches_its_last_element():
    assert Layout(torch.float32, (2, 3), (10, 1), 4).extent == 4 + 10 + 2 + 1
    assert Layout(torch.float32, (0, 3), (3, 1), 4).extent == 4
