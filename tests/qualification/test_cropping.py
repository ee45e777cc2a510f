import pytest

from harness.qualification.cropping import crop
from harness.qualification.signatures import parse


def test_a_call_within_the_limits_is_left_alone():
    small = parse('["aten::mm.default",["%float32[64,64]","%float32[64,64]"],{}]')
    assert crop(small).signature is small and crop(small).what == ""


def test_a_giant_keeps_its_remainders():
    giant = parse('["aten::mm.default",["%float32[50177,4112]","%float32[4112,4096]"],{}]')
    found = crop(giant, flops=1e10)
    (rows, terms), (same, columns) = (layout.shape for layout in found.signature.layouts())
    assert terms == same and 2 * rows * terms * columns <= 1e10
    for old, new in ((50177, rows), (4112, terms), (4096, columns)):
        assert new < old and (old - new) % 512 == 0
    assert found.what.startswith("50177 -> ") and found.what.endswith("(mod 512)")


def test_a_size_changes_in_scalars_and_every_tensor_alike():
    text = (
        '["aten::native_layer_norm.default",["%float32[64,1000,2048]",[2048],"%float32[2048]",'
        '"%float32[2048]",1e-6],{}]'
    )
    found = crop(parse(text)).signature
    x, weight, bias = found.layouts()
    assert found.args[1] == [x.shape[2]] == list(weight.shape) == list(bias.shape)
    assert x.shape[2] < 2048 and x.shape[2] % 64 == 0


def test_smaller_moduli_are_taken_where_512_is_not_enough():
    text = (
        '["aten::convolution.default",["%float32[2,256,56,56]","%float32[256,256,3,3]",null,[1,1],'
        "[1,1],[1,1],false,[0,0],1],{}]"
    )
    found = crop(parse(text))
    image, weight = found.signature.layouts()
    assert image.shape[1] == weight.shape[1] == weight.shape[0]
    assert image.shape[2] % 16 == 56 % 16 and weight.shape[2:] == (3, 3)


def test_a_part_of_a_greater_tensor_keeps_its_gaps():
    text = '["aten::relu.default",["%float32[64,4,4096,32]{1572864,32,384,1}+128"],{}]'
    (layout,) = crop(parse(text), 4e9, 1 << 23).signature.layouts()
    tokens = layout.shape[2]
    assert tokens < 4096 and tokens % 512 == 0
    assert layout.strides == (384 * tokens, 32, 384, 1) and layout.offset == 128


@pytest.mark.parametrize("size", [31, 17])
def test_small_sizes_are_never_changed(size):
    text = f'["aten::relu.default",["%float32[{size},4096,4096]"],{{}}]'
    (layout,) = crop(parse(text)).signature.layouts()
    assert layout.shape[0] == size
