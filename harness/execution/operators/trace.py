"""Own and inherited error of every operator, in one streaming pass."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harness.execution import imitation
from harness.execution.operators.calls import Call, results, stored
from harness.execution.operators.comparison import OperatorComparison, rounding_of
from harness.execution.operators.module_path import ModulePath
from harness.execution.operators.shadow import Shadow
from harness.execution.outputs import flatten
from harness.judgement import metrics
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.operator_rows import OperatorRow

if TYPE_CHECKING:
    from harness.devices.device import Device

# Of 23 mantissa bits: one less rounds factors as coarsely as float32 rounds their products.
_LAST_BIT = Arithmetic(short_conv=22, short_matmul=22)
# Reasons for which a call is no layer and gets no row.
_NO_LAYER = ("view", "uninitialised memory", "no tensor result")


def trace(
    model: torch.nn.Module,
    images: torch.Tensor,
    device: Device,
    declared: Arithmetic,
    *,
    repeats: int = 1,
) -> tuple[list[OperatorRow], dict[str, np.ndarray[Any, Any]], int]:
    """Trace a forward pass; returns rows, the device's outputs and its restarts.

    `model`: float32, on the CPU, in eval mode; `images`: float32 [N, 3, H, W] on the CPU;
    `device`: opened here, with its numerics applied; `declared`: what it declares.
    """
    tracer = _Tracer(model, device, declared, repeats)
    with torch.no_grad(), tracer.modules.watching(model), tracer:
        output = model(images)
    outputs = {
        name: tracer.device_side.twin(tensor).cpu().float().numpy()
        for name, tensor in flatten(output)
    }
    return tracer.rows, outputs, tracer.device_side.restarts


class _Tracer(TorchDispatchMode):
    """Leads the other sides through the reference's forward pass."""

    def __init__(
        self, model: torch.nn.Module, device: Device, declared: Arithmetic, repeats: int
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rows: list[OperatorRow] = []
        self.modules = ModulePath()
        self._calls = 0
        self._device = device
        self._arithmetic = declared
        self._comparison = OperatorComparison(
            model, device, declared, repeats=repeats, rehearse=True
        )
        store = imitation.storage_dtype(declared)
        self.device_side = Shadow(
            self._comparison.side.bring, dtype=store, device=device.torch_device
        )
        self._budget_side = Shadow(
            lambda tensor: stored(tensor, store).to(tensor.dtype),
            mode=imitation.Imitation(
                dataclasses.replace(_LAST_BIT, gelu=declared.gelu) if declared.full else declared
            ),
        )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One operator on every side."""
        call = Call(func, args, kwargs or {})
        index, self._calls = self._calls, self._calls + 1
        described = self._comparison.describe(call, index, self.modules.current)
        row = None if described.skipped in _NO_LAYER else described
        # A call that writes to its input comes last on the reference's side.  The own error is
        # taken before the device's forward pass arrives there: a planned fault counts on it.
        writes = bool(call.written())
        value = None if writes else func(*args, **call.kwargs)
        if row and not row.skipped:
            row = self._comparison.quick(call, row, value)
        twins = self._follow(call)
        budgets = self._budget_side.follow(call)
        if writes:
            value = func(*args, **call.kwargs)
        self.device_side.adopt(value, twins)
        self._budget_side.adopt(value, budgets)
        if row:
            self.rows.append(self._inherited(call, row, value))
        return value

    def _follow(self, call: Call) -> Any:
        try:
            return self.device_side.follow(call)
        except Exception as error:
            # Not the device's fault: this operator's result is brought over from the reference.
            self._comparison.failed(call, self.modules.current, error)
            return None

    def _inherited(self, call: Call, row: OperatorRow, value: Any) -> OperatorRow:
        worst = row
        for tensor in results(call, value):
            if not (self.device_side.has(tensor) and tensor.is_floating_point() and tensor.numel()):
                continue  # such as the real view of a complex result, which the pass does not know
            reference = tensor.numpy()
            device = self.device_side.twin(tensor).cpu().float().numpy()
            budget = metrics.rmse_in_pieces(reference, self._budget_side.twin(tensor).numpy())
            error = metrics.rmse_in_pieces(reference, device)
            power = row.reference_rms**2
            if math.isnan(power):
                power = float(torch.linalg.vector_norm(tensor)) ** 2 / tensor.numel()
            floor = rounding_of(call, tensor, self._arithmetic).mean_square(power, power)
            found = dataclasses.replace(
                row,
                # NaN where the reference has none is beyond any budget.
                inherited_rmse=math.inf if math.isnan(error) and not math.isnan(budget) else error,
                inherited_budget_rmse=max(budget, math.sqrt(floor)),
            )
            if worst is row or found.inherited_ratio > worst.inherited_ratio:
                worst = found
        return worst
