"""ATen's products, in one table: what their factors are and what other devices are asked for.

Source of the signatures: `torch.ops.aten.<name>._schema`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from harness.judgement.arithmetic import Kind

_aten = torch.ops.aten

CONVOLUTIONS = frozenset({_aten.convolution.default, _aten._convolution.default})
# Matrix product -> positions of its factors; the last dimension of the left one is summed over.
MATRIX_PRODUCTS: Mapping[Any, tuple[int, int]] = {
    _aten.mm.default: (0, 1),
    _aten.bmm.default: (0, 1),
    _aten.addmm.default: (1, 2),
    _aten.baddbmm.default: (1, 2),
}
# What PyTorch turns scaled_dot_product_attention into on the CPU; it exists there alone.
CPU_ATTENTION = _aten._scaled_dot_product_flash_attention_for_cpu.default
_CONVOLUTION_FACTORS = (0, 1)  # image and weight


def kind(func: Any) -> Kind:
    """Which part of a declared arithmetic concerns an operator."""
    if func in CONVOLUTIONS:
        return "convolution"
    return "product" if func in MATRIX_PRODUCTS or func is CPU_ATTENTION else ""


def factors(func: Any) -> tuple[int, ...]:
    """Positions of the arguments whose products an operator sums up; attention hides its own."""
    return _CONVOLUTION_FACTORS if func in CONVOLUTIONS else MATRIX_PRODUCTS.get(func, ())


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: torch.Tensor | None = None,
    scale: float | None = None,
) -> tuple[torch.Tensor]:
    """`CPU_ATTENTION` in its portable form; queries, keys and values [N, heads, tokens, width].

    Its second result, logarithms of sums, is for training.
    """
    return (
        torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale
        ),
    )


# Operators that exist on the CPU alone -> how other devices are asked for the same: the name, the
# call, and the call as Python source for a script that has to do without this package.
PORTABLE: Mapping[Any, tuple[str, Callable[..., Any], str]] = {
    CPU_ATTENTION: (
        "aten::scaled_dot_product_attention.default",
        attention,
        "(lambda q, k, v, dropout_p=0.0, is_causal=False, *, attn_mask=None, scale=None: "
        "torch.nn.functional.scaled_dot_product_attention("
        "q, k, v, attn_mask, dropout_p, is_causal, scale=scale))",
    ),
}
