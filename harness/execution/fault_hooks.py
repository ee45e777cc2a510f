"""Planned faults in a CPU model, for devices in which none can be planted.

A dispatch mode counts the executed aten operators under the names of CANN's operators and applies
a fault plan to them as the emulator does (`devices/emulator/faults.py` describes plans and
occurrence).  Kinds that concern tensors are known, but for bit_flip and fp16_accumulate, which
need the inside of an operator; those and the kinds that break a process have no effect here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harness.devices.device import Counters
from harness.devices.fault_plan import Fault, FaultPlan

# aten operator -> CANN's name; any other is named like "Add", "InplaceRelu" (relu_).
_NAMES = {
    "native_batch_norm": "BatchNorm",
    "_native_batch_norm_legit_no_training": "BatchNorm",
    "native_layer_norm": "LayerNorm",
    "native_group_norm": "GroupNorm",
    "bmm": "BatchMatMul",
}
# Name -> positions of weight and bias; None: it has no bias.
_WEIGHTED: dict[str, tuple[int, int | None]] = {
    "Convolution": (1, 2),
    "Addmm": (2, 0),
    "Mm": (1, None),
    "BatchMatMul": (1, None),
}
_MEAN, _VARIANCE = 3, 4  # arguments of batch normalisation
_NOT_COMPUTING = ("Empty", "InplaceCopy", "Clone", "Detach", "ToCopy", "EmptyLike")


class PlannedFaults(TorchDispatchMode):
    """Counts operators executed inside it and applies a plan to them; without one it counts."""

    def __init__(self, plan: str | None) -> None:
        """`plan`: JSON.  Raises ValueError for what is no plan."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._faults = FaultPlan.from_json(plan).faults if plan else ()
        self._seen = [0] * len(self._faults)
        self._effects = [0] * len(self._faults)
        self._operators: dict[str, int] = {}

    @property
    def counters(self) -> Counters:
        """What was executed and had an effect so far."""
        return Counters(dict(self._operators), tuple(self._effects))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operator, with every fault that is due at this call."""
        kwargs = kwargs or {}
        name = operator_name(func)
        if func.is_view or name in _NOT_COMPUTING:
            return func(*args, **kwargs)
        self._operators[name] = self._operators.get(name, 0) + 1
        due = self._due(name)
        if not due:
            return func(*args, **kwargs)
        changed = list(args)
        for number in due:
            self._effects[number] += _change_inputs(self._faults[number], name, changed)
        result = func(*changed, **kwargs)
        outputs = result if isinstance(result, (tuple, list)) else (result,)
        # Normalisation also returns its statistics; the values come first.
        if isinstance(outputs[0], torch.Tensor) and outputs[0].is_floating_point():
            for number in due:
                self._effects[number] += _change_output(
                    self._faults[number], outputs[0], self._seen[number]
                )
        return result

    def _due(self, name: str) -> list[int]:
        found = []
        for number, fault in enumerate(self._faults):
            if fault.operator not in ("*", name):
                continue
            self._seen[number] += 1
            after = self._seen[number] - fault.first
            ended = fault.last is not None and self._seen[number] > fault.last
            if after >= 0 and after % fault.every == 0 and not ended:
                found.append(number)
        return found


def operator_name(func: Any) -> str:
    """CANN's name of an aten operator: "Convolution", "InplaceRelu"."""
    aten = func._schema.name.partition("::")[2]
    if aten in _NAMES:
        return _NAMES[aten]
    words = "".join(word[:1].upper() + word[1:] for word in aten.strip("_").split("_"))
    return f"Inplace{words}" if aten.endswith("_") else words


def _change_inputs(fault: Fault, name: str, args: list[Any]) -> bool:
    """Apply the kinds that change what an operator reads; returns whether one was applied."""
    if name == "BatchNorm" and fault.kind == "stale_mean":
        args[_MEAN] = args[_MEAN] + fault.effective_magnitude * args[_VARIANCE].sqrt()
        return True
    if name not in _WEIGHTED:
        return False
    weight, bias = _WEIGHTED[name]
    data = args[1 if name == "Addmm" else 0]
    if len(data) <= fault.batch_over:
        return False
    if fault.kind == "scale_weight":
        args[weight] = _scaled(args[weight], fault)
        return True
    if fault.kind == "drop_bias" and bias is not None and args[bias] is not None:
        args[bias] = torch.zeros_like(args[bias])
        return True
    if fault.kind == "swap_channels" and name == "Convolution":
        args[0] = args[0].flip(1)
        return True
    return False


def _scaled(weight: torch.Tensor, fault: Fault) -> torch.Tensor:
    if fault.index is None:
        return weight * fault.effective_magnitude
    flat = weight.flatten().clone()
    flat[fault.index % len(flat)] *= fault.effective_magnitude
    return flat.view(weight.shape)


def _change_output(fault: Fault, output: torch.Tensor, call: int) -> bool:
    """Apply the kinds that change a result, in place; returns whether one was applied."""
    if output.numel() == 0 or output.ndim == 0 or len(output) <= fault.batch_over:
        return False
    magnitude, kind = fault.effective_magnitude, fault.kind
    if kind in ("duplicate_first_item", "permute_batch"):
        if len(output) < 2:
            return False
        if kind == "permute_batch":
            output.copy_(output.roll(1, 0))
        else:
            output[-1].copy_(output[0].clone())
    elif kind == "scale_output":
        output.mul_(magnitude)
    elif kind == "zero_output":
        output.zero_()
    elif kind == "noise_output":
        generator = torch.Generator().manual_seed(fault.seed * 1_000_003 + call)
        noise = torch.randn(output.shape, generator=generator).to(output.dtype)
        output.add_(noise * output.std(), alpha=magnitude)
    elif kind == "zero_channels" and output.ndim > 1:
        count = min(round(magnitude), output.shape[1])
        output[:, output.shape[1] - count :].zero_()
    elif kind in ("nan_output", "inf_output"):
        value = float("nan") if kind == "nan_output" else float("inf")
        place = torch.unravel_index(torch.tensor(fault.index or 0), output.shape)
        output[tuple(place)] = value
    elif kind == "saturate" and not bool(output.isfinite().all()):
        output.nan_to_num_(0.0)
    else:
        return False
    return True
