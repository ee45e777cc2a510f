"""Which operator is wrong: an operator call on the device, on the reference's inputs.

The reference model runs once on the CPU in float32.  Each aten operator that it executes is run
on the device on the very inputs that it had, rounded to the declared dtype first.  An operator's
**own error** is rmse(device - oracle); there is no inherited error, since no operator ever sees
what the device made of the one before.  It is judged against the **budget**, which is the greater
of rmse(imitation - oracle), the declared arithmetic imitated on the CPU, and the rounding that any
device has to be allowed for this very call (`allowance.py`).  The formulas are in
`operator_error.own_error`.

Limits, the same for all models and formats, follow from what rounding can do.  In units of the
allowed rounding a correctly rounded result is at most sqrt(3) = 1.73, whatever its values, and a
faithfully rounded one (either neighbour, truncation too) at most 2 sqrt(3) = 3.46.  No slice may
exceed 4, which is that bound with a little room for the arithmetic inside.  A whole result has
many elements and nears the average instead, 0.8 and 1.6: it may not exceed 3.  Results and slices
of few elements may exceed both by what chance can do (`operator_error.chance`).

In float16 and bfloat16 the store hides what is wrong before it.  Products, convolutions and
functions compute in float32 and round once, to nearest: where the error says that this rounding is
what the device does, the numbers that are not the nearest are counted as well
(`operator_error.misrounding`), and the greater ratio counts.

The oracle is float64.  It and the imitation are run only where the CPU's float32, which costs
nothing more, and the least rounding that any operator is allowed leave a doubt: an honest
reference, an honest imitation or the terms of this call could make the difference.  What was
measured with honest kernels and with faults is in docs/verdict.md and docs/detection.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from harness.execution import aten
from harness.execution.imitation import storage_dtype
from harness.execution.operators import allowance, cann_methods, source_line, sums
from harness.execution.operators.calls import (
    Call,
    declared,
    is_choice,
    run_budget,
    run_oracle,
    run_single,
    stored,
    why_not_comparable,
)
from harness.execution.operators.on_device import DeviceSide, memory_format
from harness.judgement import vendor_standard
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.metrics import Array
from harness.judgement.operator_error import (
    NEAREST_LIMIT,
    Rounding,
    misrounding,
    one_sided,
    own_error,
)
from harness.judgement.operator_rows import (
    EMPTY,
    NO_KERNEL,
    RATIO_LIMIT,
    SLICE_RATIO_LIMIT,
    CannMethod,
    OperatorRow,
    culprits,
)
from harness.system.messages import say
from harness.system.status import CaseProblem, Stage

if TYPE_CHECKING:
    from harness.devices.device import Device

# A float32 reference may itself be off by what rounding to nearest can do to a slice.
_SLICE_DOUBT = SLICE_RATIO_LIMIT - math.sqrt(3)


class _Skipped(Exception):
    """Why a call cannot be compared."""


def rounding_of(call: Call, output: torch.Tensor, arithmetic: Arithmetic) -> Rounding:
    """Rounding that a call's result has to be allowed at least on any device.

    The result is stored once: unit roundoff u of the dtype.  Before that, operators compute in
    float32 (unit roundoff v), by a chain of at least c = 8 roundings: v sqrt(c).
    """
    if not output.is_floating_point() or allowance.moves(call):
        return Rounding(0.0)
    format_ = torch.finfo(storage_dtype(arithmetic))
    return Rounding(
        unit=format_.eps / 2,
        inner=allowance.SINGLE * math.sqrt(sums.CHAIN),
        smallest=format_.smallest_normal * format_.eps,
    )


class OperatorComparison:
    """Judges operator calls on a device, each on the input that the reference had."""

    def __init__(
        self,
        model: torch.nn.Module,
        device: Device,
        arithmetic: Arithmetic,
        *,
        repeats: int = 1,
        rehearse: bool = False,
        standard: bool = False,
        independent: bool = False,
    ) -> None:
        """Compare with `repeats` runs of every call on the device, which must agree bit by bit.

        `rehearse`: planned faults do not count these calls; the forward pass comes later.
        `standard`: also say how each call stands by CANN's own standards (a float64 run of each).
        `independent`: the calls' numbers are drawn, so that roundings of different elements are
        independent, and sums in float32 that are rounded to one side show it.  In a model they are
        not: an even part of an image gives the same error everywhere.
        """
        self.side = DeviceSide(model, device, arithmetic)
        self._device = device
        self._arithmetic = arithmetic
        self._repeats = repeats
        self._rehearse = rehearse
        self._standard = standard
        self._independent = independent
        self._lacking: dict[str, bool] = {}

    def describe(self, call: Call, index: int, module: str) -> OperatorRow:
        """The row of a call before anything is measured, with the reason if nothing can be."""
        tensors = call.tensors()
        skipped = why_not_comparable(call)
        if not skipped and self._lacks(call.name):
            skipped = NO_KERNEL
        return OperatorRow(
            index=index,
            operator=call.name,
            module=module,
            shapes=tuple("x".join(map(str, tensor.shape)) for tensor in tensors),
            dtype=str(tensors[0].dtype).removeprefix("torch.") if tensors else "",
            memory_format=memory_format(tensors[0]) if tensors else "",
            arithmetic=self._arithmetic.of(aten.kind(call.func)),
            skipped=skipped,
            source=source_line.current(),
        )

    def compare(self, call: Call, row: OperatorRow, value: Any) -> OperatorRow:
        """Measure a call against float32, which the reference's result `value` is.

        A call that writes to its input is measured before the reference runs it, with None for
        `value`.  Where float32 leaves a doubt, float64, the imitation and the call's own terms
        decide.  Raises CaseProblem when the device fails.
        """
        try:
            got = self._on_device(call, row)
        except _Skipped as why:
            return dataclasses.replace(row, skipped=str(why))
        return self.judge(call, row, got, value)

    def judge(
        self, call: Call, row: OperatorRow, got: list[list[torch.Tensor]], value: Any = None
    ) -> OperatorRow:
        """Measure what a device made of a call: the results of every run of it, on the host.

        Otherwise as `compare`.
        """
        asked, call = call, declared(call, self._arithmetic)
        try:
            single = run_single(call, self._arithmetic, value if call is asked else None)
            quick = self._against(call, row, got, single)
            near = quick.ratio <= RATIO_LIMIT - 1 and quick.worst_slice_ratio <= _SLICE_DOUBT
            # What the format cannot hold is infinite in an honest imitation as well.
            if not near or quick.nonfinite:
                quick = self._against_float64(call, row, got)
            if culprits([quick]) and not quick.unstable:
                quick = dataclasses.replace(quick, method=self.by_method(call, row, got[0]))
            return self._with_standing(call, quick, got[0]) if self._standard else quick
        except _Skipped as why:
            return dataclasses.replace(row, skipped=str(why))
        except (RuntimeError, LookupError, TypeError, ValueError) as error:
            return dataclasses.replace(
                row,
                skipped=say("skipped.no_reference", "no reference: {error}", error=_text(error)),
            )

    def by_method(
        self, call: Call, row: OperatorRow, got: Sequence[torch.Tensor]
    ) -> CannMethod | None:
        """A device's results by CANN's published method; None where there is nothing to say.

        `got`: on the host.  By the formulas and limits that make a culprit, and what is NaN or
        infinite must be so by the method.
        """
        known = cann_methods.published(call)
        if known is None or not got or not self._device.spec.kind.startswith("npu"):
            return None
        host = got[0]
        try:
            found = cann_methods.compute(call, storage_dtype(self._arithmetic), host)
            if found is None or not found.inner.isfinite().any():
                return None
            judged = self._judge(call, row, [found.exact], [found.budget], [host], [found.inner])
        except (RuntimeError, LookupError, TypeError, ValueError):
            return None  # a form of the call that no source is read for
        otherwise = cann_methods.kinds_differ(found, host)
        return CannMethod(
            agrees=not culprits([judged]) and not otherwise,
            what=known.what,
            source=known.source,
            address=known.address,
            ratio=judged.ratio,
            worst_slice_ratio=judged.worst_slice_ratio,
            nonfinite=otherwise,
        )

    def failed(self, call: Call, module: str, error: Exception) -> str:
        """Why the device did not run a call; raises CaseProblem when the device itself failed."""
        explained = self._device.explain(error)
        if explained is not None:
            where = say(
                "operator.failed",
                "{operator} in {module}: {reason}",
                operator=call.name,
                module=module,
                reason=explained.reason,
            )
            raise CaseProblem(explained.status, Stage.FORWARD, where) from error
        return say("skipped.raised", "the device raised {error}", error=_text(error))

    def _on_device(self, call: Call, row: OperatorRow) -> list[list[torch.Tensor]]:
        """Results of every repeat, on the host."""
        runs = []
        try:
            for _ in range(self._repeats):
                with self._device.rehearsal() if self._rehearse else contextlib.nullcontext():
                    runs.append([tensor.cpu() for tensor in self.side.run(call)])
                    self._device.synchronize()
        except Exception as error:
            raise _Skipped(self.failed(call, row.module, error)) from error
        return runs

    def _against_float64(
        self, call: Call, row: OperatorRow, got: list[list[torch.Tensor]]
    ) -> OperatorRow:
        oracles = run_oracle(call, self._arithmetic)
        references = oracles, run_budget(call, self._arithmetic)
        return self._against(call, row, got, references, allowance.inner(call, oracles))

    def _against(
        self,
        call: Call,
        row: OperatorRow,
        got: list[list[torch.Tensor]],
        references: tuple[list[torch.Tensor], list[torch.Tensor]],
        inner: list[torch.Tensor] | None = None,
    ) -> OperatorRow:
        oracles, budgets = references
        if self._arithmetic.dtype != "float32" and oracles and is_choice(call, oracles[0]):
            raise _Skipped("a choice that the rounding of its format decides")
        if not oracles or not any(tensor.numel() for tensor in oracles):
            raise _Skipped(EMPTY)
        row = dataclasses.replace(
            row,
            dtype=str(got[0][0].dtype).removeprefix("torch."),
            outputs=tuple("x".join(map(str, tensor.shape)) for tensor in got[0]),
            unstable=sum(
                _differing(*pair) for other in got[1:] for pair in zip(got[0], other, strict=True)
            ),
        )
        return self._judge(call, row, oracles, budgets, got[0], inner or [None] * len(oracles))

    def _judge(
        self,
        call: Call,
        row: OperatorRow,
        oracles: list[torch.Tensor],
        budgets: list[torch.Tensor],
        hosts: list[torch.Tensor],
        inner: Sequence[torch.Tensor | None],
    ) -> OperatorRow:
        if [tensor.shape for tensor in oracles] != [tensor.shape for tensor in hosts]:
            # Another shape is an error beyond any budget.
            return dataclasses.replace(
                row, own_rmse=math.inf, ratio=math.inf, worst_slice_ratio=math.inf
            )
        judged = []
        for oracle, budget, host, inside in zip(oracles, budgets, hosts, inner, strict=True):
            if oracle.numel():
                exact, got = _array(oracle), _array(host)
                within = None if inside is None else _array(inside)
                rounding = rounding_of(call, oracle, self._arithmetic)
                error = own_error(
                    exact,
                    exact if budget is oracle else _array(budget),
                    got,
                    rounding,
                    inner=within,
                )
                where = error.worst_slice
                ratio = error.ratio
                if allowance.rounds_once(call, host) and ratio <= NEAREST_LIMIT:
                    if within is None:
                        within = rounding.inner / math.sqrt(3) * np.abs(exact)
                    nearest = _array(oracle.to(host.dtype))
                    ratio = max(ratio, misrounding(nearest, got, within, rounding))
                if (shared := self._shared(call)) is not None:
                    ratio = max(ratio, one_sided(exact, got, shared * rounding.unit))
                judged.append(
                    dataclasses.replace(
                        row,
                        own_rmse=error.rmse,
                        budget_rmse=error.budget_rmse,
                        reference_rms=error.reference_rms,
                        ratio=ratio,
                        worst_slice_ratio=error.worst_slice_ratio,
                        nonfinite=error.nonfinite,
                        worst_slice=say(
                            "operators.slice",
                            "dimension {dimension}, index {index}",
                            dimension=where[0],
                            index=where[1],
                        )
                        if where
                        else "",
                    )
                )
        return max(judged, key=lambda candidate: candidate.severity)

    def _shared(self, call: Call) -> int | None:
        """Roundings that all elements of a sum may share; None where one side is not looked for.

        Factors that are rounded to a shorter format err alike in whole rows and columns.
        """
        exact = self._arithmetic.dtype == "float32"
        if not (self._independent and exact) or self._arithmetic.factors(aten.kind(call.func)):
            return None
        return sums.shared_roundings(call)

    def _with_standing(self, call: Call, row: OperatorRow, got: list[torch.Tensor]) -> OperatorRow:
        """By CANN's standards: golden is float64, the benchmark the CPU in declared arithmetic."""
        store = storage_dtype(self._arithmetic)
        short = self._arithmetic.factors(aten.kind(call.func)) is not None
        hf32 = short and self._arithmetic.dtype == "float32"
        format_ = vendor_standard.FORMATS["HF32" if hf32 else self._arithmetic.dtype]
        golden, benchmark = run_oracle(call, self._arithmetic), run_budget(call, self._arithmetic)
        found = row.standing
        for exact, own, host in zip(golden, benchmark, got, strict=True):
            if exact.shape != host.shape or not exact.numel():
                continue
            own = stored(own, store)
            if allowance.moves(call) or not exact.is_floating_point():
                one = vendor_standard.moved(_array(own), _array(host))
            else:
                one = vendor_standard.standing(_array(exact), _array(own), _array(host), format_)
            found = one if found is None else vendor_standard.worse(found, one)
        return dataclasses.replace(row, standing=found)

    def _lacks(self, name: str) -> bool:
        if name not in self._lacking:
            self._lacking[name] = bool(self._device.fallback_operators([name]))
        return self._lacking[name]


def _array(tensor: torch.Tensor) -> Array:
    """A tensor on the host as an array to compute with: NumPy has no bfloat16, bool no minus."""
    if tensor.dtype in (torch.float32, torch.float64):
        return tensor.numpy()
    return (tensor.float() if tensor.is_floating_point() else tensor.double()).numpy()


def _differing(one: torch.Tensor, other: torch.Tensor) -> int:
    """How many elements differ between two runs; NaN equals NaN."""
    if one.shape != other.shape:
        return max(one.numel(), other.numel())
    same = (one == other) | ((one != one) & (other != other))
    return int(one.numel() - same.sum())


def _text(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
