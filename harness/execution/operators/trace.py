"""One pass over a model's operators: own error of each, and what the device inherits on its way.

`check` compares a choice of calls; `trace` compares all and follows the device's own forward pass
as well.  Both are one pass of the reference, so that what is chosen, compared and written down is
the same call, and models that keep something in their first forward pass are seen in that pass.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from harness.cases.models import promotion
from harness.cases.samples import Samples
from harness.execution import autocast, imitation
from harness.execution.operators import dispatch
from harness.execution.operators.calls import Call, in_float32, results, stored
from harness.execution.operators.choice import Choice
from harness.execution.operators.comparison import OperatorComparison, rounding_of
from harness.execution.operators.recorder import recording
from harness.execution.operators.shadow import Shadow
from harness.execution.outputs import collect, flatten
from harness.judgement import metrics
from harness.judgement.arithmetic import Arithmetic, Factors
from harness.judgement.operator_rows import NO_LAYER, OperatorRow
from harness.system.messages import say

if TYPE_CHECKING:
    from harness.devices.device import Device

# Of 23 mantissa bits: one less rounds factors as coarsely as float32 rounds their products.
_LAST_BIT = Arithmetic(short_conv=Factors(22), short_matmul=Factors(22))
_NOT_CHOSEN = say("skipped.share", "not in the share")
_TWO_DTYPES = say("skipped.dtypes", "arguments of two floating-point dtypes")

_Judge = tuple[OperatorComparison, Choice]

OnRow = Callable[[Call, OperatorRow], None]


def check(
    model: torch.nn.Module,
    given: Samples | torch.Tensor,
    device: Device,
    arithmetic: Arithmetic,
    *,
    share: float | None = 1.0,
    repeats: int = 1,
    standard: bool = False,
    on_row: OnRow = lambda call, row: None,
) -> list[OperatorRow]:
    """Compare a choice of a forward pass' calls; one row a call, in order of execution.

    `model`: float32, on the CPU, in eval mode.  `given`: one batch of samples, float32 on the CPU,
    or images [N, 3, H, W].
    `device`: opened in this process, with its numerics profile applied.  `arithmetic`: what the
    device declares, see `arithmetic.declared`; under autocast every call is compared in the dtype
    that the policy gives it.  `share`: see `Choice`; rows that are not compared say why in
    `skipped`.  `repeats`, `on_row`: as `trace`; `standard`: see `OperatorComparison`.

    Holds the tensors of one or two calls at a time, and the parameters on the device.  Raises
    ValueError for a share outside (0, 1], and CaseProblem when the device fails: the process is
    then not to be used again.
    """
    policy = arithmetic.autocast

    def judge(one: Arithmetic) -> _Judge:
        return (
            OperatorComparison(model, device, one, repeats=repeats, standard=standard),
            Choice(model, one, share),
        )

    plain = dataclasses.replace(arithmetic, autocast=None, promoted=())
    judges = {torch.float32: judge(plain)}
    if policy is not None:
        judges[getattr(torch, policy.dtype)] = judge(Arithmetic(policy.dtype, gelu=arithmetic.gelu))
    promoted = arithmetic.promoted
    of_promoted = judge(Arithmetic(gelu=arithmetic.gelu)) if promoted else None
    checker = _Checker(judges, on_row, promoted, of_promoted)
    casts = autocast.imitated(policy) if policy is not None else contextlib.nullcontext()
    with casts, recording(model, dispatch.as_on(device.torch_device), checker.on_call):
        Samples.of(given).call(model)
    checker.finish()
    return checker.rows


class _Checker:
    """Compares chosen calls as the reference executes them."""

    def __init__(
        self,
        judges: Mapping[torch.dtype, _Judge],
        on_row: OnRow,
        promoted: tuple[str, ...] = (),
        of_promoted: _Judge | None = None,
    ) -> None:
        """`judges`: by the dtype in which the reference runs a call.

        `of_promoted`: of calls in `promoted` modules, which stay in float32.
        """
        self.rows: list[OperatorRow] = []
        self._promoted = tuple(f"{path}." for path in promoted)
        self._of_promoted = of_promoted
        self._judges = judges
        self._on_row = on_row
        # The last call that could be compared was not chosen: the model's last is always in.
        self._last: tuple[Call, OperatorComparison, int, Any] | None = None

    def on_call(self, call: Call, index: int, module: str) -> Any:
        """Compare, before the reference runs a call that writes to its arguments."""
        with self._numerics(module):
            return self._on_call(call, index, module)

    def _of(self, module: str) -> _Judge | None:
        """What judges a promoted module's calls; None for the others."""
        inside = f"{module.partition('#')[0]}.".startswith(self._promoted)
        return self._of_promoted if inside else None

    def _numerics(self, module: str) -> contextlib.AbstractContextManager[None]:
        """As the module itself would set them on the device."""
        return promotion.full_float32() if self._of(module) else contextlib.nullcontext()

    def _on_call(self, call: Call, index: int, module: str) -> Any:
        wide, dtype = in_float32(call)
        comparison, choice = self._of(module) or self._judges[dtype or torch.float32]
        row = comparison.describe(wide, index, module)
        if dtype is None and not row.skipped:
            row = dataclasses.replace(row, skipped=_TWO_DTYPES)
        comparable = not row.skipped
        chosen = comparable and choice.takes(wide, module)
        writes = bool(call.written())
        if chosen and writes:
            row = comparison.compare(wide, row, None)
        value = call.func(*call.args, **call.kwargs)
        if chosen and not writes:
            row = comparison.compare(wide, row, value)
        if chosen and not row.skipped:
            self._on_row(wide, row)
        if comparable and not chosen:
            row = dataclasses.replace(row, skipped=_NOT_CHOSEN)
        if comparable or writes:
            left = comparable and not chosen and not writes
            self._last = (wide, comparison, len(self.rows), value) if left else None
        self.rows.append(row)
        return value

    def finish(self) -> None:
        """Compare the model's last call."""
        if self._last is not None:
            call, comparison, place, value = self._last
            row = dataclasses.replace(self.rows[place], skipped="")
            with torch.no_grad(), self._numerics(row.module):
                self.rows[place] = comparison.compare(call, row, value)


def trace(
    model: torch.nn.Module,
    given: Samples | torch.Tensor,
    device: Device,
    declared: Arithmetic,
    *,
    repeats: int = 1,
    on_row: OnRow = lambda call, row: None,
) -> tuple[list[OperatorRow], dict[str, np.ndarray[Any, Any]], int]:
    """Trace a forward pass; returns rows, the device's outputs and its restarts.

    `model`, `given`, `device`, `declared`: as `check`; `repeats`: runs of every call on the
    device; `on_row`: gets every compared call, with its arguments as they were before it ran.
    """
    tracer = _Tracer(model, device, declared, repeats, on_row)
    samples = Samples.of(given)
    with recording(model, dispatch.as_on(device.torch_device), tracer.on_call):
        output = samples.call(model)
    twins = {
        name: tracer.device_side.twin(tensor)
        for name, tensor in flatten(output, rows=not samples.apart)
    }
    outputs = collect([twins], apart=samples.apart)
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
        row = None if described.skipped in NO_LAYER else described  # no layer has no row
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
