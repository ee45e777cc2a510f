"""Reduced arithmetic, imitated on the CPU: what a declared format costs a model on its inputs.

HF32 and TF32 round the factors of convolutions (and, if allowed, matrix products) to a shorter
mantissa and accumulate in float32.  float16 and bfloat16 models store every weight and every
operator's result in the format, while operators compute in float32 inside.  A form of GELU that
a device takes whatever the model asks is part of its arithmetic too.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from harness.cases.models import promotion
from harness.devices.dispatcher import COMPOSITE, has_kernel
from harness.execution import aten, gelu
from harness.execution.aten import CPU_ATTENTION
from harness.judgement.arithmetic import FULL_BITS, Arithmetic, Factors


def round_mantissa(values: torch.Tensor, form: Factors) -> torch.Tensor:
    """Round float32 to fewer explicit mantissa bits.

    Returns a new float32 tensor; NaN and infinities stay as they are.
    """
    drop = FULL_BITS - form.bits
    raw = values.view(torch.int32)  # keeps the order of strides
    half = 1 << (drop - 1)
    if form.ties == "even":
        rounded = (raw >> drop).bitwise_and_(1).add_(raw).add_(half - 1)
    else:
        rounded = raw + (half if form.ties == "away" else 0)
    result = rounded.bitwise_and_(~((1 << drop) - 1)).view(torch.float32)
    if not torch.isfinite(values.sum()):  # or the sum left the range, which does no harm
        result = torch.where(torch.isfinite(values), result, values)
    return result


def storage_dtype(arithmetic: Arithmetic) -> torch.dtype:
    """The dtype in which a declared arithmetic stores."""
    dtype: torch.dtype = getattr(torch, arithmetic.dtype)
    return dtype


@functools.cache
def _is_composite(func: Any) -> bool:
    return has_kernel(func.name(), COMPOSITE)


class Imitation(TorchDispatchMode):
    """Makes float32 operators executed inside it round as an arithmetic does."""

    def __init__(self, arithmetic: Arithmetic) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.arithmetic = arithmetic
        self._store = storage_dtype(arithmetic)
        self._promoted = 0  # modules in float32 that are running, one in another

    def entered(self, change: int) -> None:
        """A module that stays in float32 begins (1) or ends (-1)."""
        self._promoted += change

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operator with rounded factors or a rounded result."""
        kwargs = gelu.declared(func, kwargs or {}, self.arithmetic.gelu)
        if _is_composite(func):
            # Seen whole where a device has a kernel for it: imitated by its parts.
            with self:
                return func.decompose(*args, **kwargs)
        if self.arithmetic.dtype == "float32":
            if self._promoted:
                return func(*args, **kwargs)
            if func is CPU_ATTENTION and self.arithmetic.short_matmul is not None:
                return self._attention(args, kwargs)
            return func(*self._short_factors(func, args), **kwargs)
        result = func(*args, **kwargs)
        if self._promoted:
            return result
        # Views share memory that was rounded when it was written.
        if not func.is_view:
            torch.utils._pytree.tree_map_only(torch.Tensor, self._store_result, result)
        return result

    def _short_factors(self, func: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        form, where = self.arithmetic.factors(aten.kind(func)), aten.factors(func)
        if form is None:
            return args
        return tuple(
            round_mantissa(arg, form) if i in where and arg.dtype == torch.float32 else arg
            for i, arg in enumerate(args)
        )

    def _attention(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[torch.Tensor, None]:
        """Attention as its matrix products, which the CPU's kernel hides."""
        with self, sdpa_kernel(SDPBackend.MATH):
            output = _whole_attention(*args, **kwargs)
        return output, None

    def _store_result(self, tensor: torch.Tensor) -> None:
        # In place, so that a result which is also an argument (relu_) is rounded for everyone.
        if tensor.dtype == torch.float32 and tensor.numel():
            tensor.copy_(tensor.to(self._store))


def _whole_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: torch.Tensor | None = None,
    scale: float | None = None,
) -> torch.Tensor:
    """`CPU_ATTENTION`, asked for by its portable name."""
    return torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask, dropout_p, is_causal, scale=scale,
        enable_gqa=query.shape[-3] != key.shape[-3],
    )  # fmt: skip


def round_weights(model: torch.nn.Module, arithmetic: Arithmetic) -> torch.nn.Module:
    """Put what the storage format makes of them in the place of a float32 model's numbers.

    Those of promoted modules stay.
    """
    if arithmetic.dtype != "float32":
        store = storage_dtype(arithmetic)
        kept = promotion.weights_of(model, arithmetic.promoted)
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                if tensor.dtype == torch.float32 and id(tensor) not in kept:
                    tensor.data = tensor.to(store).to(torch.float32)
    return model
