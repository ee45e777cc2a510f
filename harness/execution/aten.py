"""ATen's products, in one table: what their factors are.

Source of the signatures: `torch.ops.aten.<name>._schema`.
"""

from __future__ import annotations

from typing import Any

import torch

from harness.judgement.arithmetic import Kind

_aten = torch.ops.aten

CONVOLUTIONS = frozenset({_aten.convolution.default, _aten._convolution.default})
# Matrix product -> positions of its factors; the last dimension of the left one is summed over.
_PRODUCTS: dict[Any, tuple[int, int]] = {
    _aten.mm.default: (0, 1),
    _aten.bmm.default: (0, 1),
    _aten.addmm.default: (1, 2),
    _aten.baddbmm.default: (1, 2),
    _aten.mv.default: (0, 1),
    _aten.dot.default: (0, 1),
    _aten.addmv.default: (1, 2),
    _aten.addbmm.default: (1, 2),
    # PyTorch takes these apart unless a device has a kernel for the whole (`dispatch.py`).
    _aten.matmul.default: (0, 1),
    _aten.linear.default: (0, 1),
}
ATTENTION = _aten.scaled_dot_product_attention.default
# What PyTorch turns it into on the CPU; it exists there alone.
CPU_ATTENTION = _aten._scaled_dot_product_flash_attention_for_cpu.default
_ATTENTIONS = frozenset({ATTENTION, CPU_ATTENTION})
_CONVOLUTION_FACTORS = (0, 1)  # image and weight


def kind(func: Any) -> Kind:
    """Which part of a declared arithmetic concerns an operator."""
    if func in CONVOLUTIONS:
        return "convolution"
    return "product" if func in _PRODUCTS or func in _ATTENTIONS else ""


def factors(func: Any) -> tuple[int, ...]:
    """Positions of the arguments whose products an operator sums up; attention hides its own."""
    return _CONVOLUTION_FACTORS if func in CONVOLUTIONS else _PRODUCTS.get(func, ())
