"""The same call in other layouts and batches, which must not change its result beyond rounding."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from harness.execution.operators.calls import Call

_TIMES = 4  # of a catalogue's two images: some kernels take other ways beyond four
# Operators that treat the items of their first argument's first dimension alike and apart.
_BATCHED = frozenset(
    """convolution native_batch_norm _native_batch_norm_legit_no_training native_group_norm gelu
    silu mish hardswish hardsigmoid sigmoid tanh erf exp softplus elu relu leaky_relu hardtanh clamp
    sqrt rsqrt abs neg avg_pool2d max_pool2d_with_indices _adaptive_avg_pool2d upsample_bilinear2d
    upsample_bicubic2d upsample_nearest2d reflection_pad2d constant_pad_nd pixel_shuffle""".split()
)


def of(call: Call) -> Iterator[tuple[str, Call]]:
    """Name and call of each variant that a call has.

    "strided" has the call's own arguments: how they are laid out is the caller's to do.
    """
    if any(tensor.dim() for tensor in call.tensors()):
        yield "strided", call
    first = call.args[0] if call.args else None
    if call.base not in _BATCHED or not isinstance(first, torch.Tensor):
        return
    if call.written() or first.dim() < 2 or first.shape[0] < 2 or not first.is_contiguous():
        return
    yield "permuted", _with(call, first.flip(0))
    yield "split", _with(call, first[:1].clone())
    yield "grown", _with(call, first.repeat(_TIMES, *[1] * (first.dim() - 1)))


def _with(call: Call, first: torch.Tensor) -> Call:
    return Call(call.func, (first, *call.args[1:]), call.kwargs)
