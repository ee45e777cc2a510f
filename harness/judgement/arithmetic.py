"""Arithmetics that a device can declare: dtype, shortened factors, form of GELU.  No torch here."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Literal, get_args

from harness.system.messages import say

# What of an arithmetic concerns an operator: convolutions and matrix products may have shortened
# factors of their own; "" is every other operator.
Kind = Literal["convolution", "product", ""]

# Explicit mantissa bits of float32's 23 that are kept: CANN documents HF32 as float32's range
# with 11 bits ("its mantissa precision (11 bits) is close to FP16"), NVIDIA TF32 as 1 + 8 + 10.
HF32_BITS = 11
TF32_BITS = 10
FULL_BITS = 23

Ties = Literal["even", "away", "truncate"]
TIES: tuple[Ties, ...] = get_args(Ties)


@dataclasses.dataclass(frozen=True)
class Factors:
    """How float32 factors are shortened: explicit mantissa bits that are kept, and the rounding.

    `ties`: to nearest with ties to even or away from zero; "truncate": towards zero.
    """

    bits: int
    ties: Ties = "even"

    def __str__(self) -> str:
        return say("factors", "{bits} bits, {ties}", bits=self.bits, ties=_TIES[self.ties])

    @property
    def name(self) -> str:
        """Name of the format."""
        return {HF32_BITS: "HF32", TF32_BITS: "TF32"}.get(self.bits, f"{self.bits}-bit")


_TIES: dict[Ties, str] = {
    "even": say("ties.even", "ties to even"),
    "away": say("ties.away", "ties away from zero"),
    "truncate": say("ties.truncate", "truncated"),
}
_BY_TEXT = {str(form): form for form in (Factors(bits, ties) for bits in (10, 11) for ties in TIES)}


@dataclasses.dataclass(frozen=True)
class AutocastPolicy:
    """Which ATen operators torch.autocast casts on a device, "linear", "conv2d", "softmax.int".

    `dtype`: the short one, "float16" or "bfloat16"; `short`: operators whose floating-point tensors
    are cast to it; `single`: to float32; `widest`: to the widest that there is among them.
    """

    dtype: str
    short: tuple[str, ...] = ()
    single: tuple[str, ...] = ()
    widest: tuple[str, ...] = ()

    def settings(self) -> dict[str, str]:
        """As a leg's record keeps it among the numerics."""
        kinds = {"short": self.short, "single": self.single, "widest": self.widest}
        return {"autocast": self.dtype} | {
            f"autocast.{kind}": " ".join(names) for kind, names in kinds.items()
        }

    @classmethod
    def of_settings(cls, numerics: Mapping[str, str]) -> AutocastPolicy | None:
        """What `settings` gave; None where there is none."""
        if "autocast" not in numerics:
            return None
        kinds = ("short", "single", "widest")
        names = {kind: tuple(numerics.get(f"autocast.{kind}", "").split()) for kind in kinds}
        return cls(numerics["autocast"], **names)


AUTOCAST = "autocast-"


def storage(dtype: str) -> str:
    """The dtype that weights and inputs have in a case's: float32 under autocast."""
    return "float32" if dtype.startswith(AUTOCAST) else dtype


@dataclasses.dataclass(frozen=True)
class Arithmetic:
    """A declared arithmetic.

    `dtype`: "float32", "float16" or "bfloat16"; `short_conv`, `short_matmul`: how float32 factors
    of convolutions and of matrix products are shortened, None for not at all; `gelu`: the form
    ("erf", "tanh") that every GELU takes whatever the model asks, "" for that; `autocast`: the
    policy of casts of a float32 model, None for none; `promoted`: modules that compute in float32
    whatever `dtype` is, their factors not shortened.
    """

    dtype: str = "float32"
    short_conv: Factors | None = None
    short_matmul: Factors | None = None
    gelu: str = ""
    autocast: AutocastPolicy | None = None
    promoted: tuple[str, ...] = ()

    @classmethod
    def of_json(cls, found: Mapping[str, Any]) -> Arithmetic:
        """What `dataclasses.asdict` gave, also before factors had a rounding."""

        def factors(value: Any) -> Factors | None:
            return Factors(**value) if isinstance(value, dict) else value and Factors(value)

        shortened = {key: factors(found.get(key)) for key in ("short_conv", "short_matmul")}
        policy = found.get("autocast")
        if policy is not None:
            policy = AutocastPolicy(
                policy["dtype"], *(tuple(policy[kind]) for kind in ("short", "single", "widest"))
            )
        promoted = tuple(found.get("promoted", ()))
        return cls(**{**found, **shortened, "autocast": policy, "promoted": promoted})

    @property
    def exact(self) -> bool:
        """Whether this is plain float32, whose cost is the CPU's own rounding."""
        return self == Arithmetic()

    @property
    def full(self) -> bool:
        """Whether it rounds as plain float32 does, whatever its form of GELU."""
        return dataclasses.replace(self, gelu="").exact

    def factors(self, kind: Kind) -> Factors | None:
        """How an operator's float32 factors are shortened; None for not at all."""
        if kind == "convolution":
            return self.short_conv
        return self.short_matmul if kind == "product" else None

    def of(self, kind: Kind) -> str:
        """What is declared for one operator, to show: "float32", "float32 with HF32", "float16"."""
        short = self.factors(kind)
        return f"{self.dtype} with {short.name}" if short else self.dtype

    def __str__(self) -> str:
        parts = []
        if self.short_conv:
            parts.append(say("arithmetic.conv", "{format} conv", format=self.short_conv.name))
        if self.short_matmul:
            name = self.short_matmul.name
            parts.append(say("arithmetic.matmul", "{format} matmul", format=name))
        if self.gelu:
            parts.append(say("arithmetic.gelu", "every gelu as {form}", form=self.gelu))
        if self.autocast is not None:
            dtype = self.autocast.dtype
            parts.append(say("arithmetic.autocast", "autocast to {dtype}", dtype=dtype))
        if self.promoted:
            count = len(self.promoted)
            parts.append(say("arithmetic.promoted", "modules in float32: {count}", count=count))
        if not parts:
            return self.dtype
        both = functools.reduce(
            lambda left, right: say("and", "{left} and {right}", left=left, right=right), parts
        )
        return say("arithmetic", "{dtype} with {parts}", dtype=self.dtype, parts=both)


def declared(dtype: str, numerics: Mapping[str, str]) -> Arithmetic:
    """The arithmetic that a device declares by its dtype and the settings read back from it.

    `numerics`: as `Device.apply_numerics` returns them, for the NPU and for CUDA; a leg adds
    "gelu" where the device computes another form than its model asks for (`gelu.py`), and
    "conv.factors", "matmul.factors" as it was seen to round them (`factors.py`), "autocast"
    with its policy (`autocast.py`), and "promoted", the modules that a precision plan keeps in
    float32.
    """
    gelu = numerics.get("gelu", "")

    def short(part: str, tf32: str) -> Factors | None:
        measured = _BY_TEXT.get(numerics.get(f"{part}.factors", ""))
        if numerics.get(f"{part}.allow_hf32") == "True":
            return measured or Factors(HF32_BITS)
        return (measured or Factors(TF32_BITS)) if numerics.get(tf32) == "True" else None

    promoted = tuple(numerics.get("promoted", "").split())
    if storage(dtype) != "float32":
        return Arithmetic(dtype, gelu=gelu, promoted=promoted)
    conv, matmul = short("conv", "cudnn.allow_tf32"), short("matmul", "matmul.allow_tf32")
    return Arithmetic(
        short_conv=conv,
        short_matmul=matmul,
        gelu=gelu,
        autocast=AutocastPolicy.of_settings(numerics),
        promoted=promoted if conv or matmul else (),
    )
