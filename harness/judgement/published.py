"""Which forms of arithmetic are published, so that a device may have them.  No torch here.

What probes see on a device is taken as its arithmetic only where a public source says that such
devices compute so; anything else is a fault, or news, and fails by its name.  Nothing of this was
measured on an NPU.

HF32   11 bits ("its mantissa precision (11 bits) is close to FP16", CANN's data types), ties to
       even or away from zero (Ascend C, SetHF32Mode); 10 bits on the Ascend 950.
TF32   10 bits; PTX rounds (cvt.rna.tf32) to nearest with ties away, or ignores the lower bits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from harness.judgement.arithmetic import HF32_BITS, TF32_BITS, Factors, Kind, declared

_HF32 = frozenset(Factors(HF32_BITS, ties) for ties in ("even", "away"))
_HF32_950 = _HF32 | {Factors(10, ties) for ties in ("even", "away")}
_TF32 = frozenset(Factors(TF32_BITS, ties) for ties in ("even", "away", "truncate"))
# Of factors: not shortened; of results: rounded to the dtype, to nearest with ties to even.
ALL_BITS = "all bits"
# Of factors, where the result is shortened as much.
HIDDEN = "not seen behind the result"

# Of softmax in float16.
HALF_DIFFERENCES = "softmax of differences in float16"

# The part of a device's settings that is about an operator, and the operator's kind.
PARTS: Mapping[str, tuple[str, Kind]] = {
    "conv2d": ("conv", "convolution"),
    "mm": ("matmul", "product"),
}


def factors(operator: str, numerics: Mapping[str, str], chip: str) -> frozenset[Factors]:
    """The published shortened forms of float32 factors, as declared for "conv2d" or "mm".

    `numerics`: settings as the device has them; `chip`: its name.  Empty where float32 is declared.
    """
    part, kind = PARTS[operator]
    if numerics.get(f"{part}.allow_hf32") == "True":
        return _HF32_950 if "950" in chip else _HF32
    shortened = declared("float32", numerics).factors(kind)
    return _TF32 if shortened is not None else frozenset()


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a public source says of a trait: the values that it may have, as probes write them.

    A value that ends in "*" is a beginning.  `kinds`: of devices, by their beginnings; `dtypes`: ()
    for all.
    """

    values: tuple[str, ...]
    source: str
    kinds: tuple[str, ...] = ("",)
    dtypes: tuple[str, ...] = ()

    def is_about(self, kind: str, dtype: str) -> bool:
        """Whether it says anything of a device and a dtype."""
        known = any(kind.startswith(one) for one in self.kinds)
        return known and (not self.dtypes or dtype in self.dtypes)

    def allows(self, value: str) -> bool:
        """Whether a value is one of its forms."""
        return any(
            value.startswith(one[:-1]) if one.endswith("*") else value == one for one in self.values
        )


@dataclasses.dataclass(frozen=True)
class Device:
    """What the published forms depend on: kind, name, and settings as read back."""

    kind: str
    chip: str
    settings: Mapping[str, str]


def rule(device: Device, dtype: str, operator: str, trait: str) -> Rule | None:
    """What is published of a trait of an operator: all sources' forms together; None: nothing."""
    if trait == "factors":
        shortened = factors(operator, device.settings, device.chip) if dtype == "float32" else ()
        return Rule((ALL_BITS, *sorted(map(str, shortened)), HIDDEN), _SHORTENING)
    if trait in ("overflow", "invalid") and device.settings.get("inf_nan_mode") == "False":
        return None  # then the chip saturates, in its own way
    said = [
        one
        for one in (*_RULES.get((operator, trait), ()), *_RULES.get(("", trait), ()))
        if one.is_about(device.kind, dtype)
    ]
    if not said:
        return None
    return Rule(
        tuple(value for one in said for value in one.values),
        "; ".join(dict.fromkeys(one.source for one in said)),
    )


_IEEE = "IEEE 754"
_SHORTENING = "CANN's data types, Ascend C SetHF32Mode; PTX cvt.rna.tf32; else the dtype itself"
_NVIDIA = "Fasi, Higham, Mikaitis, Pranesh, Numerical behavior of NVIDIA tensor cores, 2021"
_DEFINITION = "PyTorch's definition of the operator"
_NPU, _HALF = ("npu",), ("float16", "bfloat16")
_SUMS = Rule(
    ("24 bits (float32), to nearest, ties to even",),
    "Ascend C, Mmad, tables 7 and 8: products are added up in float32; IEEE 754",
)
_DIVISOR = Rule(
    ("divided", "times the inverse in float32"), "PyTorch's own kernels, CANN's ReduceMean"
)
_TENSOR_CORE = Rule(tuple(f"{bits} bits*" for bits in range(24, 29)), _NVIDIA, ("cuda",))
_RULES: Mapping[tuple[str, str], tuple[Rule, ...]] = {
    ("", "first sums"): (_SUMS, _TENSOR_CORE),
    ("", "last sums"): (_SUMS, _TENSOR_CORE),
    ("", "result"): (Rule((ALL_BITS,), _IEEE),),
    ("", "overflow"): (Rule(("infinite",), _IEEE),),
    ("", "invalid"): (Rule(("as IEEE 754",), _IEEE),),
    **{
        ("", f"subnormal {what}"): (
            Rule(("kept",), _IEEE),
            Rule(("flushed to zero",), "PTX .ftz, Ascend C for the Ascend 950, Intel's VDPBF16PS"),
        )
        for what in ("factors", "results", "numbers")
    },
    ("amax", "NaN"): (Rule(("propagates",), _DEFINITION),),
    ("relu", "NaN"): (Rule(("propagates",), _DEFINITION),),
    ("max_pool2d", "NaN"): (
        Rule(("propagates",), _DEFINITION),
        Rule(("is passed over",), "aclnnMaxPool2dWithMask, constraints: no NaN", _NPU),
    ),
    ("conv2d 3x3", "reach"): (
        Rule(("its own terms alone",), _DEFINITION),
        Rule(("tiles of 2", "tiles of 4"), "Lavin and Gray, arXiv:1509.09308"),
    ),
    ("mean", "terms"): (
        Rule(("added, then divided",), _DEFINITION),
        Rule(("scaled, then added",), "CANN's ReduceMean", _NPU),
    ),
    ("softmax", "differences"): (
        Rule(("wider than the format",), "float32 inside, as PyTorch's own kernels"),
        Rule(("in the format",), "CANN's SoftmaxV2", _NPU, ("float16",)),
    ),
    ("mean", "divisor"): (_DIVISOR,),
    ("avg_pool2d", "divisor"): (
        _DIVISOR,
        Rule(("times the inverse in the format",), "CANN's AvgPool2d", _NPU, ("float16",)),
    ),
    ("layer_norm", "variance"): (Rule(("of differences from the mean",), _DEFINITION),),
    **{
        ("layer_norm", f"statistics of {length}"): (
            Rule(("wider than the format",), "float32 inside, as PyTorch's own kernels"),
            Rule(("in the format",), "CANN's LayerNormV3", _NPU, _HALF),
        )
        for length in (768, 1024)
    },
    ("group_norm", "variance"): (
        Rule(("of differences from the mean",), _DEFINITION),
        Rule(("mean square minus square of the mean",), "CANN's GroupNormSilu", _NPU),
    ),
    ("group_norm", "constant input"): (
        Rule(("zero",), _DEFINITION),
        Rule(("NaN for some", "not zero for some"), "CANN's GroupNormSilu", _NPU),
    ),
    ("gelu", "form"): (
        Rule(("erf",), _DEFINITION),
        Rule(("tanh",), "torch_npu, at npu_gelu: approximate has no effect", _NPU),
    ),
    ("gelu tanh", "form"): (Rule(("tanh",), _DEFINITION),),
    **{
        (name, "form"): (Rule((name,), _DEFINITION),)
        for name in ("exp", "tanh", "erf", "sigmoid", "silu", "rsqrt")
    },
    ("softmax", "form"): (
        Rule(("softmax",), _DEFINITION),
        Rule((HALF_DIFFERENCES,), "CANN's SoftmaxV2", _NPU, ("float16",)),
    ),
}
