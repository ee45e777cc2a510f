"""Planned faults in a CPU model, for devices in which none can be planted.

A dispatch mode counts the executed aten operators under the names of CANN's operators and applies
a fault plan to them as the emulator does (`devices/fault_plan.py` describes plans and
occurrence).  Kinds that concern tensors are known, but for bit_flip and fp16_accumulate (the sums
inside an operator are out of reach); those and the kinds that delay or end an operator have no
effect here.  Random numbers are drawn as the emulator draws them: the damage is the same.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harness.devices.device import Counters
from harness.devices.fault_plan import Fault, FaultPlan
from harness.devices.module_path import ModulePath, within

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
    "Baddbmm": (2, 0),
    "Addmv": (2, None),
    "Mm": (1, None),
    "Mv": (1, None),
    "BatchMatMul": (1, None),
}
_SUMMED = ("Addmm", "Baddbmm", "Addmv")  # their first argument is what is added
_MEAN, _VARIANCE, _TRAINING = 3, 4, 5  # arguments of batch normalisation
_GOLDEN = 0x9E3779B97F4A7C15  # the emulator's: its random numbers are drawn here too
_OF_THE_BATCH = ("duplicate_first_item", "permute_batch")  # integers too
_NOT_COMPUTING = ("Empty", "InplaceCopy", "Clone", "Detach", "ToCopy", "EmptyLike")


class FaultHooks(TorchDispatchMode):
    """Counts operators executed inside it and applies a plan to them; without one it counts."""

    def __init__(self, plan: str | None) -> None:
        """`plan`: JSON.  Raises ValueError for what is no plan."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._faults = FaultPlan.from_json(plan).faults if plan else ()
        self._seen = [0] * len(self._faults)
        self._effects = [0] * len(self._faults)
        self._operators: dict[str, int] = {}
        self.modules = ModulePath()

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
        for number in due:
            for output in outputs:
                if isinstance(output, torch.Tensor):
                    self._effects[number] += _change_output(
                        self._faults[number], output, self._seen[number]
                    )
        return result

    def _due(self, name: str) -> list[int]:
        found = []
        for number, fault in enumerate(self._faults):
            if fault.operator not in ("*", name):
                continue
            if fault.module is not None and not within(self.modules.path, fault.module):
                continue
            self._seen[number] += 1
            after = self._seen[number] - fault.first
            ended = fault.last is not None and self._seen[number] > fault.last
            due = after >= 0 and after % fault.every == 0 and not ended
            if due and _strikes(fault, self._seen[number]):
                found.append(number)
        return found


def _strikes(fault: Fault, execution: int) -> bool:
    """Whether a fault that comes and goes acts in an execution: as the emulator draws it."""
    bits = (fault.seed + (execution + 1) * _GOLDEN) % 2**64
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB % 2**64
    bits ^= bits >> 31
    return fault.probability >= 1 or (bits >> 11) * 2.0**-53 < fault.probability


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
        # One overload has a momentum there and is for inference alone.
        if args[_TRAINING] is True or len(args[0]) <= fault.batch_over:
            return False
        args[_MEAN] = args[_MEAN] + fault.effective_magnitude * args[_VARIANCE].sqrt()
        return True
    if name not in _WEIGHTED:
        return False
    weight, bias = _WEIGHTED[name]
    data = args[1 if name in _SUMMED else 0]
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
    if not output.is_floating_point() and kind not in _OF_THE_BATCH:
        return False
    if kind in _OF_THE_BATCH:
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
        generator = torch.Generator().manual_seed((fault.seed * _GOLDEN + call) % 2**64)
        exact = output.float()
        spread = exact.std().item() if exact.numel() > 1 else 0.0
        noise = torch.randn(output.shape, generator=generator)
        output.copy_(exact + noise * (magnitude * spread))
    elif kind == "zero_channels" and output.ndim > 1:
        count = min(math.floor(magnitude + 0.5), output.shape[1])
        output[:, output.shape[1] - count :].zero_()
    elif kind in ("nan_output", "inf_output"):
        value = float("nan") if kind == "nan_output" else float("inf")
        index = (fault.index or 0) % output.numel()
        place = torch.unravel_index(torch.tensor(index), output.shape)
        output[tuple(place)] = value
    elif kind == "saturate" and not bool(output.isfinite().all()):
        output.nan_to_num_(0.0)
    else:
        return False
    return True
