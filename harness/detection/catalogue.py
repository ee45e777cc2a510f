"""The fixed catalogue of device faults, made concrete for a model from the operators it executes.

An entry names a kind of operator and where in the forward pass it goes wrong, not a layer of one
model, so that the same catalogue fits every architecture.  A fault acts in every forward pass.
Whether it acted at all is asked of the device afterwards (`Counters.fault_effects`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from harness.devices.fault_plan import Fault, FaultPlan

# Operators with a weight, by their aclnn name.
PRODUCTS = ("Convolution", "ConvDepthwise2d", "Addmm", "Matmul", "Mm", "BatchMatMul")
_MATRIX = ("Addmm", "Mm", "Matmul")
_NORMS = ("BatchNorm", "LayerNorm", "GroupNorm")
_ACTIVATIONS = (
    *("Silu", "Relu", "InplaceRelu", "Gelu", "Hardtanh", "InplaceHardtanh", "Hardswish"),
    *("InplaceHardswish", "LeakyRelu", "InplaceLeakyRelu", "Clamp", "Sigmoid"),
)
# They move data or make none of the model's values.
_NOT_COMPUTING = ("Identity", "Cast", "InplaceCopy", "Arange", "Eye", "InplaceFillScalar")

# Where in a forward pass: share of the operator's calls that come before.
_DEPTHS: Mapping[str, float] = {
    "first": 0.0,
    "early": 0.1,
    "middle": 0.5,
    "late": 0.9,
    "last": 1.0,
}
_THREE = ("early", "middle", "late")


@dataclasses.dataclass(frozen=True)
class PlannedFault:
    """One fault, ready to be planted.

    `name`: what goes wrong; `depth`: "early", "middle", ..., "every"; `operator`: aclnn name;
    `call`: which of the operator's `calls` in one forward pass, from 1 (0: every one); `plan`:
    JSON for the emulator.
    """

    name: str
    depth: str
    operator: str
    call: int
    calls: int
    plan: str


@dataclasses.dataclass(frozen=True)
class _Entry:
    """Faults of kinds `kinds` (applied in this order) in operators of one role."""

    name: str
    role: tuple[str, ...]
    kinds: tuple[tuple[str, dict[str, Any]], ...]
    depths: tuple[str, ...] = _THREE


def _one(
    name: str,
    role: tuple[str, ...],
    kind: str,
    *depths: str,
    **fields: Any,
) -> _Entry:
    return _Entry(name, role, ((kind, fields),), depths or _THREE)


_CATALOGUE = (
    _one("weight halved", PRODUCTS, "scale_weight", magnitude=0.5),
    _one("weight x1.5", PRODUCTS, "scale_weight", magnitude=1.5),
    _one("one weight element doubled", PRODUCTS, "scale_weight", magnitude=2.0, index=0),
    _one("last 16 channels zero", PRODUCTS, "zero_channels", magnitude=16),
    _one("one channel zero", PRODUCTS, "zero_channels", magnitude=1),
    _one("output zero", PRODUCTS, "zero_output"),
    _one("output x1.01", PRODUCTS, "scale_output", magnitude=1.01),
    _one("1 % noise", PRODUCTS, "noise_output", magnitude=0.01),
    _one("one NaN", PRODUCTS, "nan_output"),
    _Entry("one Inf, saturated", PRODUCTS, (("inf_output", {}), ("saturate", {}))),
    _one("exponent bit of one element flips", PRODUCTS, "bit_flip", bit=30, index=0),
    _one("input channels reversed", PRODUCTS, "swap_channels"),
    _one("input channels BGR", PRODUCTS, "swap_channels", "first"),
    _one("sums in fp16", PRODUCTS, "fp16_accumulate"),
    _one("sums in fp16", PRODUCTS, "fp16_accumulate", "every"),
    _one("bias dropped", PRODUCTS, "drop_bias", "every"),
    _one("weight x1.5 in batches over 4", PRODUCTS, "scale_weight", "middle", batch_over=4),
    _one("batch moves on by one item", PRODUCTS, "permute_batch", "early", "late"),
    _one("last item gets item 0's result", PRODUCTS, "duplicate_first_item", "early", "late"),
    _one("classifier weight x1.5", _MATRIX, "scale_weight", "last", magnitude=1.5),
    _one("classifier output x1.01", _MATRIX, "scale_output", "last", magnitude=1.01),
    _one("classifier bias dropped", _MATRIX, "drop_bias", "last"),
    _one("batch moves on by one item", _MATRIX, "permute_batch", "last"),
    _one("last item gets item 0's result", _MATRIX, "duplicate_first_item", "last"),
    _one("normalisation mean off by 0.1 std", _NORMS, "stale_mean", magnitude=0.1),
    _one("normalisation output zero (branch dropped)", _NORMS, "zero_output"),
    _one("normalisation output x1.01", _NORMS, "scale_output", magnitude=1.01),
    _one("activation x1.01", _ACTIVATIONS, "scale_output", magnitude=1.01),
    _one("activation: one channel zero", _ACTIVATIONS, "zero_channels", magnitude=1),
)


def instantiate(operators: Mapping[str, int]) -> tuple[PlannedFault, ...]:
    """Make the catalogue concrete for a model.

    `operators`: aclnn name -> calls in one forward pass.  Of the operators that can play an
    entry's role the one with most calls is taken; entries without one are left out.  Every
    computing operator besides is made wrong by 1 % once, in its middle call.
    """
    planned: dict[str, PlannedFault] = {}
    used = set()
    for entry in _CATALOGUE:
        operator = busiest(operators, entry.role)
        if operator is None:
            continue
        used.add(operator)
        for depth in entry.depths:
            fault = _plan(entry.name, depth, operator, operators[operator], entry.kinds)
            planned.setdefault(fault.plan, fault)  # few calls: depths coincide
    for operator, calls in operators.items():
        if operator not in used and operator not in _NOT_COMPUTING:
            kinds = (("scale_output", {"magnitude": 1.01}),)
            fault = _plan(f"{operator} x1.01", "middle", operator, calls, kinds)
            planned.setdefault(fault.plan, fault)
    return tuple(planned.values())


def weight_fault(operators: Mapping[str, int], relative: float) -> PlannedFault | None:
    """The middle weight of the model scaled by 1 + `relative`; None when no operator has one."""
    operator = busiest(operators, PRODUCTS)
    if operator is None:
        return None
    kinds = (("scale_weight", {"magnitude": 1.0 + relative}),)
    name = f"weight x(1 + {relative:.3g})"
    return _plan(name, "middle", operator, operators[operator], kinds)


def busiest(operators: Mapping[str, int], role: tuple[str, ...]) -> str | None:
    """The operator of a role with most calls; of equals the one that the role names first."""
    found = [name for name in role if operators.get(name)]
    return max(found, key=lambda name: operators[name], default=None)


def _plan(
    name: str,
    depth: str,
    operator: str,
    calls: int,
    kinds: tuple[tuple[str, dict[str, Any]], ...],
) -> PlannedFault:
    if depth == "every":
        call = 0
        occurrence: dict[str, Any] = {"first": 1, "every": 1}
    else:
        call = 1 + round((calls - 1) * _DEPTHS[depth])
        occurrence = {"first": call, "every": calls}
    faults = [Fault(kind, operator, **occurrence, **fields) for kind, fields in kinds]
    return PlannedFault(name, depth, operator, call, calls, FaultPlan(tuple(faults)).to_json())
