"""Detection power: which faults of a device would this case have shown?

The catalogue's faults are planted one at a time while the case runs; each result is judged by
the protocol's gate and by the very method that judges the case (`Sides.judge`).  Every leg
is one forward pass: repeated forwards and other ways to batch the images, which a case runs as
well, can only find more.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from harness.detection import catalogue
from harness.detection.catalogue import PlannedFault
from harness.judgement import arithmetic
from harness.judgement.documented import documented_gate
from harness.records.sensitivity import FaultRow, Sensitivity
from harness.system.messages import say
from harness.system.status import CaseProblem, Stage, Status

if TYPE_CHECKING:
    from harness.cases.case import Case
    from harness.execution.legs import LegRequest, LegResult
    from harness.execution.sides import Sides
    from harness.judgement.metrics import Array
    from harness.judgement.verdict import Verdict

BISECTIONS = 6
# Relative errors of a weight between which the smallest detectable one is looked for: a few
# units in the last place of float32, and the whole weight.
SMALLEST_ERROR, GREATEST_ERROR = 1e-6, 1.0

Report = Callable[[str], None]


class Bench:
    """Plants faults in one case's forward pass and judges what comes out."""

    def __init__(self, sides: Sides, case: Case) -> None:
        """Run the case without faults.

        Raises CaseProblem when that does not give outputs on both sides.
        """
        device = sides.device
        self.sides = sides
        self.emulated = device.emulated
        self.request: LegRequest = dataclasses.replace(
            sides.request(case), repeat=0, batch_checks=False, fault_plan=None
        )
        self.means = f"planted in {device}"
        self._numerics: dict[str, str] = {}
        if not self.emulated:
            # Only what the device declares is taken from it.
            self.means = f"planted by hooks on the CPU, in the arithmetic of {device}"
            leg = sides.ask(self.request)
            self._numerics = leg.record.numerics
        self.clean = self._run(None)
        self.clean_verdict = sides.judge(self.request, self.clean)
        self.operators = per_forward(
            self.clean.counters.operators, self.request.inputs.count, self.request.batch_size
        )

    def plant(self, fault: PlannedFault) -> FaultRow:
        """Run one forward pass with a fault and judge it."""
        gate_passed: bool | None = False
        ratio = limit = None
        try:
            candidate = self._run(fault.plan)
            effective = any(candidate.counters.fault_effects) and not same(
                self.clean.outputs, candidate.outputs
            )
            verdict = self.sides.judge(self.request, candidate)
            status, ratio, limit = verdict.status, *worst_ratio(verdict)
            gate_passed = self._gate(candidate)
        except CaseProblem as problem:
            # No outputs: the published protocol would not have passed it either.
            if problem.status is Status.ERROR_HARNESS or problem.stage is Stage.LOAD:
                raise
            effective, status = True, problem.status
        return FaultRow(
            fault=fault.name,
            depth=fault.depth,
            operator=fault.operator,
            call=fault.call,
            calls=fault.calls,
            effective=effective,
            gate_passed=gate_passed,
            status=status,
            ratio=ratio,
            limit=limit,
        )

    def _run(self, plan: str | None) -> LegResult:
        if self.emulated:
            request = dataclasses.replace(self.request, fault_plan=plan)
            return self.sides.ask(request)
        declared = arithmetic.declared(self.request.dtype, self._numerics)
        leg = self.sides.cpu.planted(self.request, declared, plan)
        record = leg.record.model_copy(update={"numerics": self._numerics})
        return dataclasses.replace(leg, record=record)

    def _gate(self, candidate: LegResult) -> bool | None:
        """The protocol's gate on whatever came out, NaN included."""
        reference = self.sides.cpu.reference(self.request)
        name = reference.logits
        if name is None:
            return None
        if name not in candidate.outputs:
            return False
        with np.errstate(invalid="ignore", over="ignore"):
            return documented_gate(
                reference.outputs[name], candidate.outputs[name], self.request.inputs.labels
            ).passed


def measure(
    sides: Sides, case: Case, *, limit: int | None = None, report: Report = lambda text: None
) -> Sensitivity:
    """Plant the catalogue in a case, one fault at a time.

    `limit`: take that many faults, spread over the catalogue.  `report` is told of progress.
    A case that does not run gives a `problem` instead of rows.
    """
    try:
        return _measure(Bench(sides, case), limit, report)
    except CaseProblem as problem:
        return Sensitivity("", sides.device.emulated, problem.status, None, problem=problem.reason)


def _measure(bench: Bench, limit: int | None, report: Report) -> Sensitivity:
    ratio, _ = worst_ratio(bench.clean_verdict)
    result = Sensitivity(
        means=bench.means,
        emulated=bench.emulated,
        clean=bench.clean_verdict.status,
        clean_ratio=ratio,
    )
    if result.clean not in (Status.PASS, Status.INCONCLUSIVE):
        return dataclasses.replace(
            result,
            problem=say(
                "detection.not_clean",
                "The case ends as {status} without any fault, so that faults cannot be told from "
                "it.",
                status=result.clean.value,
            ),
        )
    faults = spread_over(catalogue.instantiate(bench.operators), limit)
    rows = []
    for number, fault in enumerate(faults, start=1):
        rows.append(bench.plant(fault))
        row = rows[-1]
        report(f"{number}/{len(faults)} {row.fault}, {row.depth} ({row.place}): {row.status.value}")
    error, place = _weight_error(bench)
    return dataclasses.replace(result, rows=tuple(rows), weight_error=error, weight_place=place)


def smallest_caught(
    caught: Callable[[float], bool], least: float, greatest: float, steps: int
) -> float | None:
    """The smallest size at which `caught` is true, by geometric bisection between two sizes.

    Returns a size that was seen to be caught, at most (greatest / least)^(2^-steps) above the
    border when there is one border; `least` when that is caught already; None when `greatest` is
    not caught.
    """
    if not caught(greatest):
        return None
    if caught(least):
        return least
    low, high = least, greatest
    for _ in range(steps):
        middle = math.sqrt(low * high)
        if caught(middle):
            high = middle
        else:
            low = middle
    return high


def per_forward(operators: Mapping[str, int], images: int, batch_size: int) -> dict[str, int]:
    """Calls in one forward pass, from the calls in one pass over all images."""
    forwards = math.ceil(images / batch_size)
    return {name: calls // forwards for name, calls in operators.items() if calls >= forwards}


def worst_ratio(verdict: Verdict) -> tuple[float | None, float | None]:
    """The greatest budget ratio over the outputs and its limit; None where none was taken."""
    rows = [row for row in verdict.budgets if math.isfinite(row.worst_ratio)]
    if not rows:
        return None, None
    worst = max(rows, key=lambda row: row.worst_ratio)
    return worst.worst_ratio, worst.limit


def same(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    """Whether two legs gave the same values, bit for bit."""
    return one.keys() == other.keys() and all(
        np.array_equal(one[name], other[name], equal_nan=True) for name in one
    )


def spread_over(faults: tuple[PlannedFault, ...], limit: int | None) -> tuple[PlannedFault, ...]:
    """At most `limit` faults, evenly spread over the catalogue, so that all kinds are met."""
    if limit is None or limit >= len(faults):
        return faults
    return tuple(faults[index * len(faults) // limit] for index in range(limit))


def _weight_error(bench: Bench) -> tuple[float | None, str]:
    """The smallest relative error of the middle weight that is caught, and where that is."""
    place = ""

    def caught(relative: float) -> bool:
        nonlocal place
        fault = catalogue.weight_fault(bench.operators, relative)
        if fault is None:
            return False
        row = bench.plant(fault)
        place = row.place
        return row.status not in (Status.PASS, Status.SKIP, Status.INCONCLUSIVE)

    return smallest_caught(caught, SMALLEST_ERROR, GREATEST_ERROR, BISECTIONS), place
