"""Arithmetics that a device can declare: dtype, shortened factors, form of GELU.  No torch here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

# What of an arithmetic concerns an operator: convolutions and matrix products may have shortened
# factors of their own; "" is every other operator.
Kind = Literal["convolution", "product", ""]

# Explicit mantissa bits of float32's 23 that are kept: CANN documents HF32 as float32's range
# with 11 bits ("its mantissa precision (11 bits) is close to FP16"), NVIDIA TF32 as 1 + 8 + 10.
HF32_BITS = 11
TF32_BITS = 10


@dataclasses.dataclass(frozen=True)
class Arithmetic:
    """A declared arithmetic.

    `dtype`: "float32", "float16" or "bfloat16"; `short_conv`, `short_matmul`: mantissa bits to
    which float32 factors of convolutions and of matrix products are rounded, None for all 23;
    `gelu`: the form ("erf", "tanh") that every GELU takes whatever the model asks, "" for that.
    """

    dtype: str = "float32"
    short_conv: int | None = None
    short_matmul: int | None = None
    gelu: str = ""

    @property
    def exact(self) -> bool:
        """Whether this is plain float32, whose cost is the CPU's own rounding."""
        return self == Arithmetic()

    @property
    def full(self) -> bool:
        """Whether it rounds as plain float32 does, whatever its form of GELU."""
        return dataclasses.replace(self, gelu="").exact

    def factor_bits(self, kind: Kind) -> int | None:
        """Mantissa bits to which an operator's float32 factors are rounded; None for all 23."""
        if kind == "convolution":
            return self.short_conv
        return self.short_matmul if kind == "product" else None

    def of(self, kind: Kind) -> str:
        """What is declared for one operator, to show: "float32", "float32 with HF32", "float16"."""
        bits = self.factor_bits(kind)
        return f"{self.dtype} with {_format(bits)}" if bits else self.dtype

    def __str__(self) -> str:
        parts = [
            f"{_format(bits)} {where}"
            for where, bits in (("conv", self.short_conv), ("matmul", self.short_matmul))
            if bits
        ]
        if self.gelu:
            parts.append(f"every gelu as {self.gelu}")
        return f"{self.dtype} with {' and '.join(parts)}" if parts else self.dtype


def _format(bits: int) -> str:
    return {HF32_BITS: "HF32", TF32_BITS: "TF32"}.get(bits, f"{bits}-bit")


def declared(dtype: str, numerics: Mapping[str, str]) -> Arithmetic:
    """The arithmetic that a device declares by its dtype and the settings read back from it.

    `numerics`: as `Device.apply_numerics` returns them, for the NPU and for CUDA; a leg adds
    "gelu" where the device computes another form than its model asks for (`gelu.py`).
    """
    gelu = numerics.get("gelu", "")

    def bits(hf32: str, tf32: str) -> int | None:
        if numerics.get(hf32) == "True":
            return HF32_BITS
        return TF32_BITS if numerics.get(tf32) == "True" else None

    if dtype != "float32":
        return Arithmetic(dtype, gelu=gelu)
    return Arithmetic(
        short_conv=bits("conv.allow_hf32", "cudnn.allow_tf32"),
        short_matmul=bits("matmul.allow_hf32", "matmul.allow_tf32"),
        gelu=gelu,
    )
