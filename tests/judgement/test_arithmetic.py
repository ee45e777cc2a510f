import dataclasses

import pytest

from harness.judgement.arithmetic import HF32_BITS, TF32_BITS, Arithmetic, Factors, declared

HF32, TF32 = Factors(HF32_BITS), Factors(TF32_BITS)


@pytest.mark.parametrize(
    ("dtype", "numerics", "expected"),
    [
        ("float32", {}, Arithmetic()),
        ("float32", {"conv.allow_hf32": "False", "matmul.allow_hf32": "False"}, Arithmetic()),
        (
            "float32",
            {"conv.allow_hf32": "True", "matmul.allow_hf32": "False"},
            Arithmetic(short_conv=HF32),
        ),
        (
            "float32",
            {"cudnn.allow_tf32": "True", "matmul.allow_tf32": "True"},
            Arithmetic(short_conv=TF32, short_matmul=TF32),
        ),
        (
            "float32",
            {"conv.allow_hf32": "True", "matmul.allow_hf32": "False", "promoted": "stem head"},
            Arithmetic(short_conv=Factors(11), promoted=("stem", "head")),
        ),
        ("float32", {"conv.allow_hf32": "False", "promoted": "stem head"}, Arithmetic()),
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
    assert "HF32 conv and every gelu as erf" in str(Arithmetic(short_conv=HF32, gelu="erf"))
    assert str(Arithmetic("float16", gelu="tanh")) == "float16 with every gelu as tanh"
    assert Arithmetic(gelu="tanh").full and not Arithmetic(gelu="tanh").exact
    assert not Arithmetic(short_conv=HF32).full and not Arithmetic("float16").full


def test_what_is_declared_for_an_operator_knows_no_other_operator():
    tanh = Arithmetic(gelu="tanh")
    assert tanh.of("convolution") == tanh.of("product") == tanh.of("") == "float32"
    assert tanh.factors("convolution") is tanh.factors("product") is None
    short = Arithmetic(short_conv=HF32, short_matmul=TF32, gelu="tanh")
    assert short.of("convolution") == "float32 with HF32"
    assert short.of("product") == "float32 with TF32"
    assert short.of("") == "float32"
    assert short.factors("convolution") == HF32
    assert Arithmetic("bfloat16", gelu="tanh").of("convolution") == "bfloat16"


def test_an_arithmetic_of_a_cache_s_header_is_read_back_also_from_before_roundings_had_names():
    short = Arithmetic(short_conv=Factors(11, "away"), gelu="tanh")
    assert Arithmetic.of_json(dataclasses.asdict(short)) == short
    old = {"dtype": "float32", "short_conv": 11, "short_matmul": None, "gelu": ""}
    assert Arithmetic.of_json(old) == Arithmetic(short_conv=HF32)
