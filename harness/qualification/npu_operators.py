"""Operators of torch_npu's own namespace, declared where torch_npu is not loaded.

A module that calls `torch.ops.npu.npu_fusion_attention` can so be followed without torch_npu, which
cannot be imported where CANN is not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.library import _scoped_library, register_fake

_NAME = "npu_fusion_attention"
# As torch_npu declares it (op-plugin, op_plugin/config/op_plugin_functions.yaml).
_SCHEMA = (
    f"{_NAME}(Tensor query, Tensor key, Tensor value, int head_num, str input_layout, Tensor? "
    "pse=None, Tensor? padding_mask=None, Tensor? atten_mask=None, float scale=1., float "
    "keep_prob=1., int pre_tockens=2147483647, int next_tockens=2147483647, int inner_precise=0, "
    "int[]? prefix=None, int[]? actual_seq_qlen=None, int[]? actual_seq_kvlen=None, int "
    "sparse_mode=0, bool gen_mask_parallel=True, bool sync=False) -> (Tensor, Tensor, Tensor, "
    "Tensor, int, int, int)"
)


@contextlib.contextmanager
def declared() -> Iterator[None]:
    """While inside, the operators are there, for fake tensors at least."""
    if hasattr(torch.ops.npu, _NAME):
        yield
        return
    with _scoped_library("npu", "FRAGMENT") as library:
        library.define(_SCHEMA)
        register_fake(f"npu::{_NAME}", _attention, lib=library)
        yield


def _attention(query: torch.Tensor, *rest: Any, **named: Any) -> tuple[Any, ...]:
    # The others than the first are for the backward pass.
    return torch.empty_like(query), *(query.new_empty(0) for _ in range(3)), 0, 0, 0
