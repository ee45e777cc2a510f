import math

import pytest
import torch

from harness.qualification import inputs
from harness.qualification.judging import bits
from harness.qualification.signatures import parse

CONV = (
    '["aten::convolution.default",["%float32[2,16,8,8]","%float32[8,16,3,3]",null,[1,1],[1,1],'
    "[1,1],false,[0,0],1],{}]"
)
NORM = (
    '["aten::native_layer_norm.default",["%float32[4,64]",[64],"%float32[64]","%float32[64]",'
    "1e-6],{}]"
)


def test_the_same_call_and_set_have_the_same_bits_on_every_host():
    call = inputs.make(parse(CONV), "typical")
    # Known beforehand from Philox and NumPy's documented stream; another value breaks every cache.
    assert bits(call.tensors()) == bits(inputs.make(parse(CONV), "typical").tensors())
    assert bits(call.tensors()) != bits(inputs.make(parse(CONV), "hard").tensors())


def test_another_call_of_the_same_shapes_has_other_numbers():
    other = CONV.replace("[1,1],[1,1],[1,1]", "[1,1],[2,2],[2,2]")
    one, two = (inputs.make(parse(text), "typical").args[0] for text in (CONV, other))
    assert not torch.equal(one, two)


def test_no_row_of_a_great_tensor_repeats_another():
    size = 1 << 19
    assert size < inputs.PERIOD < 3 * size  # the third row begins anew within it
    text = f'["aten::relu.default",["%float32[3,{size}]"],{{}}]'
    x = inputs.make(parse(text), "typical").args[0]
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert (x[one] == x[other]).float().mean() < 1e-3


def test_the_numbers_of_a_kind_are_spread_as_it_says():
    normal = torch.from_numpy(inputs.part("normal", 7, (512, 1024)))
    assert abs(float(normal.mean())) < 0.01 and abs(float(normal.std()) - 1) < 0.01
    assert torch.equal(normal, torch.from_numpy(inputs.part("normal", 7, (512, 1024))))


def test_a_call_has_numbers_of_its_own():
    x = inputs.make(parse('["aten::relu_.default",["%float32[64]"],{}]'), "typical").args[0]
    x.zero_()
    again = inputs.make(parse('["aten::relu_.default",["%float32[64]"],{}]'), "typical").args[0]
    assert again.any()


def test_a_convolutions_result_keeps_the_size_of_its_image():
    call = inputs.make(parse(CONV), "typical")
    assert 0.7 < call.func(*call.args).std() < 1.3


def test_hard_normalisations_are_far_off_centre():
    x = inputs.make(parse(NORM), "hard").args[0][::2]
    assert 25 < x.mean() / x.std() < 35


@pytest.mark.parametrize(
    ("operator", "arguments", "slices"),
    [
        ("native_layer_norm.default", '"%float32[2,3,64]",[64],null,null,1e-05', (6, 64)),
        ("rms_norm.default", '"%float32[2,3,64]",[64],null,1e-06', (6, 64)),
        ("native_group_norm.default", '"%float32[2,6,8,8]",null,null,2,6,64,3,1e-05', (6, 128)),
        ("native_batch_norm.default",
         '"%float32[1,6,8,8]",null,null,null,null,true,0.0,1e-08', (6, 64)),
        ("native_batch_norm.default",
         '"%float32[1,6,8,8]",null,null,"%float32[6]","%float32[6]",false,0.0,0.001', (6, 64)),
    ],
)  # fmt: skip
def test_every_second_slice_of_a_hard_normalisation_varies_by_about_eps(
    operator, arguments, slices
):
    call = inputs.make(parse(f'["aten::{operator}",[{arguments}],{{}}]'), "hard")
    eps = call.args[-1]
    variances = call.args[0].reshape(slices).var(1)
    assert (variances[1::2] > eps / 8).all() and (variances[1::2] < 8 * eps).all()
    assert (variances[::2] > 0.1).all()
    running = call.args[4:5]
    if isinstance(next(iter(running), None), torch.Tensor):
        assert (running[0][1::2] > eps / 8).all() and (running[0][1::2] < 8 * eps).all()
        assert (running[0][::2] > 0.1).all()


def test_hard_output_channels_differ_in_size():
    weight = inputs.make(parse(CONV), "hard").args[1]
    sizes = weight.flatten(1).square().mean(1).sqrt()
    assert sizes.max() / sizes.min() >= 8


def test_functions_see_large_tiny_and_signed_zero_arguments():
    text = '["aten::gelu.default",["%float32[64,64]"],{}]'
    typical = inputs.make(parse(text), "typical").args[0]
    hard = inputs.make(parse(text), "hard").args[0]
    assert 1 < typical.square().mean().sqrt() < 3 and (typical.abs() > 6).any()
    smallest = torch.finfo(torch.float32).smallest_normal
    assert ((hard != 0) & (hard.abs() < smallest)).any()
    assert ((hard == 0) & torch.signbit(hard)).any() and ((hard == 0) & ~torch.signbit(hard)).any()


def test_infinities_and_nan_are_given_where_every_element_is_alone():
    text = '["aten::relu.default",["%float32[64,64]"],{}]'
    signature = parse(text)
    x = inputs.make(signature, inputs.NONFINITE).args[0]
    assert inputs.has_nonfinite(signature, inputs.make(signature, "typical"))
    assert x.isnan().any() and (x == math.inf).any() and (x == -math.inf).any()
    assert not inputs.has_nonfinite(parse(CONV), inputs.make(parse(CONV), "typical"))


def test_what_lies_between_the_elements_of_a_part_is_nan():
    call = inputs.make(parse('["aten::relu.default",["%float32[4,3]{8,1}+2"],{}]'), "typical")
    x = call.args[0]
    assert x.stride() == (8, 1) and x.storage_offset() == 2 and x.isfinite().all()
    storage = torch.empty(0).set_(x.untyped_storage())
    assert len(storage) == 2 + 3 * 8 + 2 + 1
    assert int(storage.isnan().sum()) == len(storage) - 12


def test_an_expanded_argument_has_one_value_in_all_its_places():
    call = inputs.make(parse('["aten::relu.default",["%float32[4,3]{0,1}"],{}]'), "typical")
    x = call.args[0]
    assert x.isfinite().all() and torch.equal(x[0], x[3])


def test_half_formats_get_numbers_that_they_hold():
    x = inputs.make(parse('["aten::relu.default",["%float16[64]"],{}]'), "typical").args[0]
    assert x.dtype == torch.float32 and torch.equal(x, x.half().float())


def test_indices_stay_within_their_dimension():
    text = '["aten::index_select.default",["%float32[5,3]",1,"%int64[100]"],{}]'
    index = inputs.make(parse(text), "typical").args[2]
    assert index.min() == 0 and index.max() == 2


def test_integers_of_unknown_meaning_are_not_guessed():
    text = '["aten::scatter.src",["%float32[5,3]",1,"%int64[5,3]","%float32[5,3]"],{}]'
    with pytest.raises(ValueError, match="no safe range"):
        inputs.make(parse(text), "typical")
