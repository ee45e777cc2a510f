"""Which aclnn operator torch_npu calls for an aten operator, and with which of its arguments.

`dispatch.csv` has a row for each: `aten` with overload; `operator`, the name without "aclnn", empty
where torch_npu takes the operator whole and nothing is known of what it calls; `arguments`, by
CANN's name, "gamma=weight" where aten's differs ("out" is the first result, ":dtype" behind one
that is cast to the dtype argument first); `when`: "number other" for the form that takes a number
in the place of a tensor.  The first row that fits counts.  Observed with torch_npu 2.13 on a 910B
(`tests/emulator/test_dispatch_table.py` holds every row against it).
"""

from __future__ import annotations

import csv
import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from harness.devices import contract
from harness.devices.dispatcher import COMPOSITE, has_kernel
from harness.execution.aten import ATTENTION
from harness.execution.operators.calls import Call, bound, tensors_in

_PATH = Path(__file__).with_name("dispatch.csv")
_FUSED = ("npu::npu_fusion_attention.default", "npu::npu_fusion_attention_v3.default")
# What torch_npu asks before it takes attention whole (op-plugin,
# op_plugin/ops/opapi/ScaledDotProductAttentionKernelNpuOpApi.cpp).
_MOST_HEADS, _GREATEST_HEAD = 2048, 512


class Unknown(Exception):
    """Nothing is known of what a call becomes on the device; says why."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of the table; `arguments`: CANN's name -> aten's."""

    aten: str
    operator: str
    arguments: Mapping[str, str]
    when: str


@dataclasses.dataclass(frozen=True)
class DeviceCall:
    """A call of an aclnn operator ("Relu") with those arguments that the contract speaks of."""

    operator: str
    arguments: Mapping[str, contract.Argument]


@functools.cache
def table() -> Mapping[str, tuple[Row, ...]]:
    """All rows by aten operator."""
    found: dict[str, list[Row]] = {}
    with _PATH.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            pairs = (item.partition("=") for item in row["arguments"].split())
            arguments = {name: source or name for name, _, source in pairs}
            found.setdefault(row["aten"], []).append(
                Row(row["aten"], row["operator"], arguments, row["when"])
            )
    return {name: tuple(rows) for name, rows in found.items()}


@functools.cache
def whole() -> frozenset[Any]:
    """Composite aten operators that torch_npu has a kernel for, so that they are one call."""
    found = {ATTENTION}
    for name in table():
        qualified = name.removesuffix(".default")
        if not name.startswith("aten::") or not has_kernel(qualified, COMPOSITE):
            continue
        if not has_kernel(qualified, "CPU"):
            packet, _, overload = name.removeprefix("aten::").partition(".")
            found.add(getattr(getattr(torch.ops.aten, packet), overload))
    return frozenset(found)


def is_fused(call: Call) -> bool:
    """Whether torch_npu takes an attention call whole; else it takes it apart."""
    given = bound(call)
    query, key, value, mask = (given[name] for name in ("query", "key", "value", "attn_mask"))
    floating = query.dtype in (torch.float32, torch.float16, torch.bfloat16)
    odd = any(tensor.shape[-1] % 4 for tensor in (query, key, value))
    if not floating or (query.dtype == torch.float32 and odd):
        return False
    if any(tensor.dim() != 4 for tensor in (query, key, value)):
        return False
    heads, shared = query.shape[1], key.shape[1]
    fitting = 0 < shared <= heads <= _MOST_HEADS and heads % shared == 0
    masked = mask is None or mask.dtype == torch.bool
    return bool(fitting and masked and query.shape[3] <= _GREATEST_HEAD)


def device_call(call: Call, result: Any) -> DeviceCall | None:
    """What a call becomes on the device; None where it computes nothing there.

    `result`: what the call gave.  Raises Unknown where no row fits.
    """
    if call.name.startswith("prim::") or call.base in _NOTHING:
        return None
    if call.func.is_view or torch.Tag.inplace_view in call.func.tags:
        return None
    if call.func is ATTENTION:
        query, key, value = call.args[:3]
        return _attention(query, key, value, query.shape[1], query.shape[-1])
    given = bound(call)
    rows = [row for row in table().get(call.name, ()) if _fits(row, given)]
    if not rows:
        raise Unknown("it is not known which operator of CANN this becomes")
    row = rows[0]
    if not row.operator:
        raise Unknown("torch_npu takes it whole, and what it calls is not known")
    if call.name in _FUSED:
        heads, query = given["head_num"], given["query"]
        flat = query.dim() == 3
        size = query.shape[-1] // max(1, heads) if flat else query.shape[-1]
        return _attention(query, given["key"], given["value"], heads, size)
    outputs = tensors_in(result)
    given = {**given, "out": outputs[0] if outputs else None}
    arguments = {name: _argument(source, given) for name, source in row.arguments.items()}
    return DeviceCall(row.operator, arguments)


# Memory is taken or named anew, and nothing computed.
_NOTHING = frozenset(
    """alias detach empty empty_like empty_strided new_empty new_empty_strided _unsafe_view
    _reshape_alias lift_fresh sym_size sym_stride sym_numel""".split()
)


def _fits(row: Row, given: Mapping[str, Any]) -> bool:
    number = row.when.removeprefix("number ")
    return not number or not isinstance(given[number], torch.Tensor)


def _argument(source: str, given: Mapping[str, Any]) -> contract.Argument:
    name, _, cast = source.partition(":")
    value = given[name]
    if isinstance(value, (bool, int)):
        return (int(value),)
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], int):
        return tuple(value)
    found = tuple(described(tensor) for tensor in tensors_in(value))
    if cast and given[cast] is not None:
        dtype = str(given[cast]).removeprefix("torch.")
        found = tuple(dataclasses.replace(tensor, dtype=dtype) for tensor in found)
    return found


def _attention(query: Any, key: Any, value: Any, heads: int, size: int) -> DeviceCall:
    tensors = {"query": query, "key": key, "value": value}
    sizes = {"head_num": (heads,), "head_size": (size,)}
    if query.dim() == 4:
        sizes |= {"key_head_size": (key.shape[-1],), "value_head_size": (value.shape[-1],)}
    arguments = {name: (described(tensor),) for name, tensor in tensors.items()}
    return DeviceCall("FlashAttentionScore", {**arguments, **sizes})


def described(tensor: torch.Tensor) -> contract.Tensor:
    """Dtype and shape of a tensor, real or fake."""
    shape = tuple(int(size) for size in tensor.shape)
    return contract.Tensor(str(tensor.dtype).removeprefix("torch."), shape)
