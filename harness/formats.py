"""Reduced arithmetic, imitated on the CPU: what a declared format costs a model on its inputs.

HF32 and TF32 round the factors of convolutions (and, if allowed, matrix products) to a shorter
mantissa and accumulate in float32.  float16 and bfloat16 models store every weight and every
operator's result in the format, while operators compute in float32 inside.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Explicit mantissa bits.  float32 has 23; HF32 and TF32 keep 10 (this project's evidence for
# HF32; NVIDIA documents TF32 as 1 + 8 + 10 bits).
_HF32_BITS = 10

_aten = torch.ops.aten
_CONVOLUTIONS = frozenset({_aten.convolution.default, _aten._convolution.default})
# Operator -> positions of the two factors.
_PRODUCTS: Mapping[Any, tuple[int, int]] = {
    _aten.mm.default: (0, 1),
    _aten.bmm.default: (0, 1),
    _aten.addmm.default: (1, 2),
    _aten.baddbmm.default: (1, 2),
}


@dataclasses.dataclass(frozen=True)
class Arithmetic:
    """A declared arithmetic.

    `dtype`: "float32", "float16" or "bfloat16"; `short_conv`, `short_matmul`: whether float32
    factors of convolutions and of matrix products are rounded to HF32 (or TF32).
    """

    dtype: str = "float32"
    short_conv: bool = False
    short_matmul: bool = False

    @property
    def exact(self) -> bool:
        """Whether this is plain float32, whose cost is the CPU's own rounding."""
        return self.dtype == "float32" and not (self.short_conv or self.short_matmul)

    def __str__(self) -> str:
        if self.dtype != "float32":
            return self.dtype
        parts = [n for n, on in (("conv", self.short_conv), ("matmul", self.short_matmul)) if on]
        return f"float32 with HF32/TF32 {' and '.join(parts)}" if parts else "float32"


def declared(dtype: str, numerics: Mapping[str, str]) -> Arithmetic:
    """The arithmetic that a device declares by its dtype and the settings read back from it.

    `numerics`: as `Device.apply_numerics` returns them, for the NPU and for CUDA.
    """

    def on(*names: str) -> bool:
        return any(numerics.get(name) == "True" for name in names)

    return Arithmetic(
        dtype=dtype,
        short_conv=dtype == "float32" and on("conv.allow_hf32", "cudnn.allow_tf32"),
        short_matmul=dtype == "float32" and on("matmul.allow_hf32", "matmul.allow_tf32"),
    )


def round_mantissa(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Round float32 to `bits` explicit mantissa bits, to nearest, ties to even.

    Returns a new float32 tensor; NaN and infinities stay as they are.
    """
    drop = 23 - bits
    raw = values.contiguous().view(torch.int32)
    odd = (raw >> drop) & 1
    rounded = (raw + ((1 << (drop - 1)) - 1) + odd) & ~((1 << drop) - 1)
    return torch.where(torch.isfinite(values), rounded.view(torch.float32), values)


class Imitation(TorchDispatchMode):
    """Makes float32 operators executed inside it round as an arithmetic does."""

    def __init__(self, arithmetic: Arithmetic) -> None:
        super().__init__()
        self.arithmetic = arithmetic
        self._store = getattr(torch, arithmetic.dtype)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operator with rounded factors or a rounded result."""
        kwargs = kwargs or {}
        if self.arithmetic.dtype == "float32":
            return func(*self._short_factors(func, args), **kwargs)
        result = func(*args, **kwargs)
        # Views share memory that was rounded when it was written.
        if not func.is_view:
            torch.utils._pytree.tree_map_only(torch.Tensor, self._store_result, result)
        return result

    def _short_factors(self, func: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        if self.arithmetic.short_conv and func in _CONVOLUTIONS:
            where: tuple[int, ...] = (0, 1)
        elif self.arithmetic.short_matmul and func in _PRODUCTS:
            where = _PRODUCTS[func]
        else:
            return args
        return tuple(
            round_mantissa(arg, _HF32_BITS) if i in where and arg.dtype == torch.float32 else arg
            for i, arg in enumerate(args)
        )

    def _store_result(self, tensor: torch.Tensor) -> None:
        # In place, so that a result which is also an argument (relu_) is rounded for everyone.
        if tensor.dtype == torch.float32 and tensor.numel():
            tensor.copy_(tensor.to(self._store))


def round_weights(model: torch.nn.Module, arithmetic: Arithmetic) -> torch.nn.Module:
    """Round a float32 model's parameters and buffers to the storage format, in place."""
    if arithmetic.dtype != "float32":
        store = getattr(torch, arithmetic.dtype)
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                if tensor.dtype == torch.float32:
                    tensor.copy_(tensor.to(store))
    return model
