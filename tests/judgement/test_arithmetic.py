import pytest

from harness.judgement.arithmetic import HF32_BITS, TF32_BITS, Arithmetic, declared


@pytest.mark.parametrize(
    ("dtype", "numerics", "expected"),
    [
        ("float32", {}, Arithmetic()),
        ("float32", {"conv.allow_hf32": "False", "matmul.allow_hf32": "False"}, Arithmetic()),
        (
            "float32",
            {"conv.allow_hf32": "True", "matmul.allow_hf32": "False"},
            Arithmetic(short_conv=HF32_BITS),
        ),
        (
            "float32",
            {"cudnn.allow_tf32": "True", "matmul.allow_tf32": "True"},
            Arithmetic(short_conv=TF32_BITS, short_matmul=TF32_BITS),
        ),
        ("bfloat16", {"conv.allow_hf32": "True"}, Arithmetic("bfloat16")),
        ("float32", {"gelu": "tanh"}, Arithmetic(gelu="tanh")),
        ("float16", {"gelu": "tanh"}, Arithmetic("float16", gelu="tanh")),
    ],
)
def test_the_arithmetic_follows_from_the_settings_read_back(dtype, numerics, expected):
    assert declared(dtype, numerics) == expected
    assert expected.exact == (expected == Arithmetic())


def test_a_form_of_gelu_is_named_and_changes_no_rounding():
    assert str(Arithmetic(gelu="tanh")) == "float32 with every gelu as tanh"
    assert "HF32 conv and every gelu as erf" in str(Arithmetic(short_conv=HF32_BITS, gelu="erf"))
    assert str(Arithmetic("float16", gelu="tanh")) == "float16 with every gelu as tanh"
    assert Arithmetic(gelu="tanh").full and not Arithmetic(gelu="tanh").exact
    assert not Arithmetic(short_conv=HF32_BITS).full and not Arithmetic("float16").full


def test_what_is_declared_for_an_operator_knows_no_other_operator():
    tanh = Arithmetic(gelu="tanh")
    assert tanh.of("convolution") == tanh.of("product") == tanh.of("") == "float32"
    assert tanh.factor_bits("convolution") is tanh.factor_bits("product") is None
    short = Arithmetic(short_conv=HF32_BITS, short_matmul=TF32_BITS, gelu="tanh")
    assert short.of("convolution") == "float32 with HF32"
    assert short.of("product") == "float32 with TF32"
    assert short.of("") == "float32"
    assert short.factor_bits("convolution") == HF32_BITS
    assert Arithmetic("bfloat16", gelu="tanh").of("convolution") == "bfloat16"
