"""Which operator is wrong: every operator of a model on the device, on the reference's inputs.

The reference model runs once on the CPU in float32.  Each aten operator that it executes is run
three times more on the very inputs that it had, rounded to the declared dtype first: on the device,
in float64 on the CPU (the oracle), and in the declared arithmetic imitated on the CPU (the budget).
An operator's **own error** is rmse(device - oracle); there is no inherited error, since no operator
ever sees what the device made of the one before.  It is judged against the **budget**
rmse(imitation - oracle), never below the rounding that any result of this format has to be allowed
(`rounding_of`).  The formulas are in `operator_error.own_error`.

Limits, the same for all models and formats, follow from what rounding can do.  In units of the
allowed rounding a correctly rounded result is at most sqrt(3) = 1.73, whatever its values, and a
faithfully rounded one (either neighbour, truncation too) at most 2 sqrt(3) = 3.46.  No slice may
exceed 4, which is that bound with a little room for the arithmetic inside.  A whole result has
many elements and nears the average instead, 0.8 and 1.6: it may not exceed 3.

Measured over 12 architectures (2 images, 2,608 operator calls in each format), greatest
ratio / worst slice ratio of honest devices:

    emulator: float32 1.00 / 2.45, HF32 1.00 / 2.46, float16 1.00 / 1.67, bfloat16 1.00 / 1.67
    CPU: one thread without oneDNN 1.03 / 2.45, its own float16 kernels 1.00 / 1.70, bfloat16
    1.00 / 1.67; every result truncated: float16 2.21 / 3.38, bfloat16 2.37 / 3.34

and faults in one call each (first, middle, last of every kind of operator), how many escaped of
those that changed anything (neither limit exceeded), and the least ratio of the whole result:

    fault                          float32        HF32           float16        bfloat16
    1 % noise                      0/226 1254     0/226 42       1/226 2.6      3/226 0.8
    one dead channel               0/225          0/225          0/225          0/225
    output x 1.01                  0/226 1219     0/226 44       0/226 33       3/226 2.8
    weight x 1.05                  0/103          0/103          0/103 53       0/103 6.6
    one weight of a layer x 1.5    0/103 10       3/103 1.0      11/103 0.7     33/103 0.7
    mean stale by 0.1 deviations   0/19           0/19           0/19 8.0       1/19 1.2
    sums in float16                0/103 151      40/103 1.2     68/103 0.7     95/103 0.7
    bias dropped                   0/46 5.5       0/46 5.5       2/46 0.7       2/46 0.7
    last item = first, batch permuted, channels reversed, all zero, NaN, exponent bit: none

What escapes lies below the rounding of the declared format, where the size of an error cannot
tell it from honest work: the same operator in strict float32 shows all of it.  HF32 factors that
are truncated where CANN documents rounding to nearest are flagged (2.7 to 17 / 8 to 21).
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harness.execution import aten
from harness.execution.imitation import storage_dtype
from harness.execution.operators.calls import (
    Call,
    run_budget,
    run_oracle,
    run_single,
    why_not_comparable,
)
from harness.execution.operators.module_path import ModulePath
from harness.execution.operators.on_device import DeviceSide, memory_format
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.metrics import Array
from harness.judgement.operator_error import Rounding, own_error
from harness.judgement.operator_rows import RATIO_LIMIT, SLICE_RATIO_LIMIT, OperatorRow
from harness.system.status import CaseProblem, Stage

if TYPE_CHECKING:
    from harness.devices.device import Device

# Roundings to float32 that an operator may make inside, one after another, beyond its sums:
# normalisation subtracts, multiplies, multiplies and adds; an elementary function as good as
# OpenCL asks for has an error of a few units in the last place.
_INNER_ROUNDINGS = 8
# A float32 reference may itself be off by what rounding to nearest can do to a slice.
_SLICE_DOUBT = SLICE_RATIO_LIMIT - math.sqrt(3)
_NOT_IN_SHARE = "not in the share"


class _Skipped(Exception):
    """Why a call cannot be compared."""


def compare_operators(
    model: torch.nn.Module,
    images: torch.Tensor,
    device: Device,
    arithmetic: Arithmetic,
    *,
    share: float = 1.0,
    seed: int = 0,
) -> list[OperatorRow]:
    """Compare every operator of a forward pass; one row an operator call, in order of execution.

    `model`: float32, on the CPU, in eval mode.  `images`: float32 [N, 3, H, W] on the CPU.
    `device`: opened in this process, with its numerics profile applied.  `arithmetic`: what the
    device declares, see `arithmetic.declared`.  `share`, in (0, 1]: the part of the calls of every
    kind of operator that is compared, spread over the depth of the model and drawn from `seed`;
    at least one call of every kind.  The other rows say so in `skipped`.

    Holds the tensors of one call at a time, and the parameters on the device.  Raises ValueError
    for a share outside (0, 1], and CaseProblem when the device fails: the process is then not to
    be used again.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1], got {share}")
    chosen = None if share == 1 else _choose(_kinds(model, images), share, seed)
    comparer = _Comparer(model, device, arithmetic, chosen)
    with torch.no_grad(), comparer.modules.watching(model), comparer:
        model(images)
    return comparer.rows


def rounding_of(call: Call, output: torch.Tensor, arithmetic: Arithmetic) -> Rounding:
    """Rounding that a call's result has to be allowed on any device.

    The result is stored once: unit roundoff u of the dtype.  Before that, operators compute in
    float32 (unit roundoff v): a sum of n terms of random sign, added one by one, makes n roundings
    of partial sums that grow as sqrt(k), together v sqrt(n / 2) of the result; and a chain of
    c = 8 roundings v sqrt(c).  The order of summation is the device's own choice, so the CPU's
    (blocked, hence better) does not bind it.
    """
    if not output.is_floating_point():
        return Rounding(0.0)
    format_ = torch.finfo(storage_dtype(arithmetic))
    single = torch.finfo(torch.float32).eps / 2
    chain = max(call.terms(output) / 2, _INNER_ROUNDINGS)
    return Rounding(
        unit=format_.eps / 2,
        inner=single * math.sqrt(chain),
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
    ) -> None:
        """Compare with `repeats` runs of every call on the device, which must agree bit by bit.

        `rehearse`: planned faults do not count these calls; the forward pass comes later.
        """
        self.side = DeviceSide(model, device.torch_device, arithmetic)
        self._device = device
        self._arithmetic = arithmetic
        self._repeats = repeats
        self._rehearse = rehearse
        self._lacking: dict[str, bool] = {}

    def describe(self, call: Call, index: int, module: str) -> OperatorRow:
        """The row of a call before anything is measured, with the reason if nothing can be."""
        tensors = call.tensors()
        skipped = why_not_comparable(call)
        if not skipped and self._lacks(call.device_name):
            skipped = "the device has no kernel: it would run on the CPU"
        return OperatorRow(
            index=index,
            operator=call.name,
            module=module,
            shapes=tuple("x".join(map(str, tensor.shape)) for tensor in tensors),
            dtype=str(tensors[0].dtype).removeprefix("torch.") if tensors else "",
            memory_format=memory_format(tensors[0]) if tensors else "",
            arithmetic=self._arithmetic.of(aten.kind(call.func)),
            skipped=skipped,
        )

    def thorough(self, call: Call, row: OperatorRow) -> OperatorRow:
        """Measure against float64, before the reference runs the call: it may write to its input.

        Raises CaseProblem when the device fails.
        """
        try:
            return self._against_float64(call, row, self._on_device(call, row))
        except _Skipped as why:
            return dataclasses.replace(row, skipped=str(why))

    def quick(self, call: Call, row: OperatorRow, value: Any) -> OperatorRow:
        """Measure against float32, which the reference's result `value` is.

        A call that writes to its input is measured before the reference runs it, with None for
        `value`.  Only the rounding that any device has to be allowed counts as budget, but for
        HF32.  Where that leaves a doubt, because an honest reference (whose own error is as large
        where float32 is declared) or an honest imitation could make the difference, float64 and the
        imitation decide.  Raises CaseProblem when the device fails.
        """
        try:
            got = self._on_device(call, row)
            quick = self._against(call, row, got, lambda: run_single(call, self._arithmetic, value))
            clear = quick.ratio <= RATIO_LIMIT - 1 and quick.worst_slice_ratio <= _SLICE_DOUBT
            return quick if clear else self._against_float64(call, row, got)
        except _Skipped as why:
            return dataclasses.replace(row, skipped=str(why))

    def failed(self, call: Call, module: str, error: Exception) -> str:
        """Why the device did not run a call; raises CaseProblem when the device itself failed."""
        explained = self._device.explain(error)
        if explained is not None:
            where = f"{call.name} in {module}: {explained.reason}"
            raise CaseProblem(explained.status, Stage.FORWARD, where) from error
        return f"the device raised {_text(error)}"

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
        return self._against(
            call,
            row,
            got,
            lambda: (run_oracle(call, self._arithmetic), run_budget(call, self._arithmetic)),
        )

    def _against(
        self,
        call: Call,
        row: OperatorRow,
        got: list[list[torch.Tensor]],
        references: Callable[[], tuple[list[torch.Tensor], list[torch.Tensor]]],
    ) -> OperatorRow:
        try:
            oracles, budgets = references()
        except (RuntimeError, NotImplementedError) as error:
            raise _Skipped(f"no reference: {_text(error)}") from error
        if not oracles or not any(tensor.numel() for tensor in oracles):
            raise _Skipped("empty result")
        row = dataclasses.replace(
            row,
            dtype=str(got[0][0].dtype).removeprefix("torch."),
            outputs=tuple("x".join(map(str, tensor.shape)) for tensor in got[0]),
            unstable=sum(
                _differing(*pair) for other in got[1:] for pair in zip(got[0], other, strict=True)
            ),
        )
        return self._judge(call, row, oracles, budgets, got[0])

    def _judge(
        self,
        call: Call,
        row: OperatorRow,
        oracles: list[torch.Tensor],
        budgets: list[torch.Tensor],
        hosts: list[torch.Tensor],
    ) -> OperatorRow:
        if [tensor.shape for tensor in oracles] != [tensor.shape for tensor in hosts]:
            # Another shape is an error beyond any budget.
            return dataclasses.replace(
                row, own_rmse=math.inf, ratio=math.inf, worst_slice_ratio=math.inf
            )
        judged = []
        for oracle, budget, host in zip(oracles, budgets, hosts, strict=True):
            if oracle.numel():
                exact = _array(oracle)
                error = own_error(
                    exact,
                    exact if budget is oracle else _array(budget),
                    _array(host),
                    rounding_of(call, oracle, self._arithmetic),
                )
                where = error.worst_slice
                judged.append(
                    dataclasses.replace(
                        row,
                        own_rmse=error.rmse,
                        budget_rmse=error.budget_rmse,
                        reference_rms=error.reference_rms,
                        ratio=error.ratio,
                        worst_slice_ratio=error.worst_slice_ratio,
                        nonfinite=error.nonfinite,
                        worst_slice=f"dimension {where[0]}, index {where[1]}" if where else "",
                    )
                )
        return max(judged, key=lambda candidate: candidate.severity)

    def _lacks(self, name: str) -> bool:
        if name not in self._lacking:
            self._lacking[name] = bool(self._device.fallback_operators([name]))
        return self._lacking[name]


class _Comparer(TorchDispatchMode):
    """Compares operators as the reference executes them."""

    def __init__(
        self,
        model: torch.nn.Module,
        device: Device,
        arithmetic: Arithmetic,
        chosen: frozenset[int] | None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rows: list[OperatorRow] = []
        self.modules = ModulePath()
        self._comparison = OperatorComparison(model, device, arithmetic)
        self._chosen = chosen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compare, then run the operator for the reference: it may write to its arguments."""
        call = Call(func, args, kwargs or {})
        row = self._comparison.describe(call, len(self.rows), self.modules.current)
        if not row.skipped and self._chosen is not None and row.index not in self._chosen:
            row = dataclasses.replace(row, skipped=_NOT_IN_SHARE)
        self.rows.append(row if row.skipped else self._comparison.thorough(call, row))
        return func(*args, **call.kwargs)


class _KindCounter(TorchDispatchMode):
    """Lists the kind of every comparable call by its place in the order of execution."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls = 0
        self.kinds: dict[str, list[int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        call = Call(func, args, kwargs or {})
        if not why_not_comparable(call):
            self.kinds.setdefault(call.kind(), []).append(self.calls)
        self.calls += 1
        return func(*args, **call.kwargs)


def _kinds(model: torch.nn.Module, images: torch.Tensor) -> dict[str, list[int]]:
    counter = _KindCounter()
    with torch.no_grad(), counter:
        model(images)
    return counter.kinds


def _choose(kinds: dict[str, list[int]], share: float, seed: int) -> frozenset[int]:
    """Draw from each kind's calls one out of every equal stretch of the model's depth."""
    chosen = []
    for kind, calls in kinds.items():
        draw = random.Random(f"{seed} {kind}")  # noqa: S311 - the same draw for everybody
        wanted = max(1, round(share * len(calls)))
        bounds = [len(calls) * part // wanted for part in range(wanted + 1)]
        chosen += [
            calls[draw.randrange(start, end)]
            for start, end in zip(bounds, bounds[1:], strict=False)
        ]
    return frozenset(chosen)


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
