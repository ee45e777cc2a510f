"""One pass over a model's operators: own error of each, and what the device inherits on its way.

`check` compares a choice of calls; `trace` compares all and follows the device's own forward pass
as well.  Both are one pass of the reference, so that what is chosen, compared and written down is
the same call, and models that keep something in their first forward pass are seen in that pass.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from harness.execution import imitation
from harness.execution.operators import dispatch
from harness.execution.operators.calls import Call, results, stored
from harness.execution.operators.choice import Choice
from harness.execution.operators.comparison import OperatorComparison, rounding_of
from harness.execution.operators.recorder import recording
from harness.execution.operators.shadow import Shadow
from harness.execution.outputs import flatten
from harness.judgement import metrics
from harness.judgement.arithmetic import Arithmetic, Factors
from harness.judgement.operator_rows import OperatorRow

if TYPE_CHECKING:
    from harness.devices.device import Device

# Of 23 mantissa bits: one less rounds factors as coarsely as float32 rounds their products.
_LAST_BIT = Arithmetic(short_conv=Factors(22), short_matmul=Factors(22))
# Reasons for which a call is no layer and gets no row in a trace.
NO_LAYER = ("view", "uninitialised memory", "no tensor result")
_NOT_CHOSEN = "not in the share"

OnRow = Callable[[Call, OperatorRow], None]


def check(
    model: torch.nn.Module,
    images: torch.Tensor,
    device: Device,
    arithmetic: Arithmetic,
    *,
    share: float | None = 1.0,
    standard: bool = False,
) -> list[OperatorRow]:
    """Compare a choice of a forward pass' calls; one row a call, in order of execution.

    `model`: float32, on the CPU, in eval mode.  `images`: float32 [N, 3, H, W] on the CPU.
    `device`: opened in this process, with its numerics profile applied.  `arithmetic`: what the
    device declares, see `arithmetic.declared`.  `share`: see `Choice`; rows that are not compared
    say why in `skipped`.  `standard`: see `OperatorComparison`.

    Holds the tensors of one or two calls at a time, and the parameters on the device.  Raises
    ValueError for a share outside (0, 1], and CaseProblem when the device fails: the process is
    then not to be used again.
    """
    checker = _Checker(
        OperatorComparison(model, device, arithmetic, standard=standard),
        Choice(model, arithmetic, share),
    )
    with recording(model, dispatch.as_on(device.torch_device), checker.on_call):
        model(images)
    checker.finish()
    return checker.rows


class _Checker:
    """Compares chosen calls as the reference executes them."""

    def __init__(self, comparison: OperatorComparison, choice: Choice) -> None:
        self.rows: list[OperatorRow] = []
        self._comparison = comparison
        self._choice = choice
        # The last call that could be compared was not chosen: the model's last is always in.
        self._last: tuple[Call, int, Any] | None = None

    def on_call(self, call: Call, index: int, module: str) -> Any:
        """Compare, before the reference runs a call that writes to its arguments."""
        row = self._comparison.describe(call, index, module)
        comparable = not row.skipped
        chosen = comparable and self._choice.takes(call, module)
        writes = bool(call.written())
        if chosen and writes:
            row = self._comparison.compare(call, row, None)
        value = call.func(*call.args, **call.kwargs)
        if chosen and not writes:
            row = self._comparison.compare(call, row, value)
        if comparable and not chosen:
            row = dataclasses.replace(row, skipped=_NOT_CHOSEN)
        if comparable or writes:
            left = comparable and not chosen and not writes
            self._last = (call, len(self.rows), value) if left else None
        self.rows.append(row)
        return value

    def finish(self) -> None:
        """Compare the model's last call."""
        if self._last is not None:
            call, place, value = self._last
            row = dataclasses.replace(self.rows[place], skipped="")
            with torch.no_grad():
                self.rows[place] = self._comparison.compare(call, row, value)


def trace(
    model: torch.nn.Module,
    images: torch.Tensor,
    device: Device,
    declared: Arithmetic,
    *,
    repeats: int = 1,
    on_row: OnRow = lambda call, row: None,
) -> tuple[list[OperatorRow], dict[str, np.ndarray[Any, Any]], int]:
    """Trace a forward pass; returns rows, the device's outputs and its restarts.

    `model`, `images`, `device`, `declared`: as `check`; `repeats`: runs of every call on the
    device; `on_row`: gets every compared call, with its arguments as they were before it ran.
    """
    tracer = _Tracer(model, device, declared, repeats, on_row)
    with recording(model, dispatch.as_on(device.torch_device), tracer.on_call):
        output = model(images)
    outputs = {
        name: tracer.device_side.twin(tensor).detach().cpu().float().numpy()
        for name, tensor in flatten(output)
    }
    return tracer.rows, outputs, tracer.device_side.restarts


class _Tracer:
    """Leads the other sides through the reference's forward pass."""

    def __init__(
        self,
        model: torch.nn.Module,
        device: Device,
        declared: Arithmetic,
        repeats: int,
        on_row: OnRow,
    ) -> None:
        self.rows: list[OperatorRow] = []
        self._on_row = on_row
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

    def on_call(self, call: Call, index: int, module: str) -> Any:
        """One operator on every side."""
        described = self._comparison.describe(call, index, module)
        row = None if described.skipped in NO_LAYER else described
        # A call that writes to its input comes last on the reference's side.  The own error is
        # taken before the device's forward pass arrives there: a planned fault counts on it.
        writes = bool(call.written())
        value = None if writes else call.func(*call.args, **call.kwargs)
        if row and not row.skipped:
            row = self._comparison.compare(call, row, value)
            if not row.skipped:
                self._on_row(call, row)
        twins = self._follow(call, module)
        budgets = self._budget_side.follow(call)
        if writes:
            value = call.func(*call.args, **call.kwargs)
        self.device_side.adopt(value, twins)
        self._budget_side.adopt(value, budgets)
        if row:
            self.rows.append(self._inherited(call, row, value))
        return value

    def _follow(self, call: Call, module: str) -> Any:
        try:
            return self.device_side.follow(call)
        except Exception as error:
            # Not the device's fault: this operator's result is brought over from the reference.
            self._comparison.failed(call, module, error)
            return None

    def _inherited(self, call: Call, row: OperatorRow, value: Any) -> OperatorRow:
        worst = row
        for tensor in results(call, value):
            single = tensor.dtype in (torch.float32, torch.float64)
            if not (self.device_side.has(tensor) and single and tensor.numel()):
                continue  # such as the real view of a complex result, which the pass does not know
            reference = tensor.numpy()
            device = self.device_side.twin(tensor).cpu().float().numpy()
            budget = metrics.rmse_in_pieces(reference, self._budget_side.twin(tensor).numpy())
            error = metrics.rmse_in_pieces(reference, device)
            power = row.reference_rms**2
            if math.isnan(power):
                power = float(torch.linalg.vector_norm(tensor)) ** 2 / tensor.numel()
            floor = rounding_of(call, tensor, self._arithmetic).mean_square(power)
            found = dataclasses.replace(
                row,
                # NaN where the reference has none is beyond any budget.
                inherited_rmse=math.inf if math.isnan(error) and not math.isnan(budget) else error,
                inherited_budget_rmse=max(budget, math.sqrt(floor)),
            )
            if worst is row or found.inherited_ratio > worst.inherited_ratio:
                worst = found
        return worst
