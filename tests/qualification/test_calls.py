import pytest
import torch
from torch.nn import functional as F

from harness.qualification import calls, signatures
from harness.qualification.calls import Level

WHOLE = Level(
    ("aten::matmul.default", "aten::scaled_dot_product_attention.default"), dense_results=True
)
APART = Level((), dense_results=False)


class Attention(torch.nn.Module):
    def forward(self, x):
        x = F.scaled_dot_product_attention(x, x, x).permute(0, 2, 1, 3)
        return torch.matmul(x * 2, x.transpose(-1, -2))


def counted(level, model=Attention, shape=(2, 3, 4, 8), dtype=torch.float32):
    with level.on_meta():
        found = calls.count(calls.on_meta(model, dtype), shape, dtype, level)
    return {signatures.parse(text).operator: (count, text) for text, count in found.items()}


def test_what_a_device_takes_whole_is_one_call():
    found = counted(WHOLE)
    assert set(found) == {
        "aten::scaled_dot_product_attention.default", "aten::mul.Tensor", "aten::matmul.default"
    }  # fmt: skip
    apart = counted(APART)
    assert "aten::bmm.default" in apart and "aten::matmul.default" not in apart


def test_results_lie_in_memory_as_the_device_leaves_them():
    dense = counted(WHOLE)["aten::matmul.default"][1]
    assert '"%float32[2,4,3,8]",' in dense  # the product's result, though its argument is a view
    kept = counted(Level(("aten::matmul.default",), dense_results=False))["aten::matmul.default"][1]
    assert '"%float32[2,4,3,8]{96,8,32,1}",' in kept


def test_composites_fall_apart_again_afterwards():
    with WHOLE.on_meta():
        pass
    assert "aten::bmm.default" in counted(APART)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_formats_are_traced_in_their_own_dtype(dtype):
    text = counted(WHOLE, dtype=dtype)["aten::mul.Tensor"][1]
    assert f'"%{str(dtype).removeprefix("torch.")}[2,4,3,8]' in text


def test_a_model_whose_way_depends_on_numbers_raises():
    class Looks(torch.nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(Exception, match="meta|symbolic|item"):
        calls.count(calls.on_meta(Looks, torch.float32), (1, 3, 4, 4), torch.float32, APART)
