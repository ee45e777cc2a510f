"""Finds a plan: predicted by shares, tried on the device, at most `PAIRS` times.

A pair is one forward pass on the device and one on the CPU.  The first is without a plan.  What a
set of modules would give is predicted from the last pair that gave numbers: each output's error
against float64 is multiplied by the root of what the set leaves of the roundings' mean square, over
what that pair's set left.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from harness.cases.case import Case
from harness.execution.legs import LegRequest, LegResult
from harness.execution.sides import Sides
from harness.judgement import arithmetic, metrics
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.metrics import Array
from harness.judgement.shares import DIRECTIONS, closure, described
from harness.prescription import search
from harness.prescription.search import Modules
from harness.prescription.targets import Outputs, Scale, Target
from harness.records.leg import DeviceInfo
from harness.system.status import CaseProblem, Status, UsageProblem

PAIRS = 6
_GUESSES = 2  # pairs that are kept for sets that no share proposes
_STEPS = 200  # of a factor on errors, between none and all of them
_TIGHTER = 0.97


@dataclasses.dataclass(frozen=True)
class Try:
    """One pair.

    `modules`: the outermost in float32; `count`: those in float32 that run operators; `predicted`,
    `observed`: metrics by name, the first {} where there was nothing to predict from;
    `predicted_rmse`, `rmse`: of the first output against float64, by shares and on the device, NaN
    where its numbers are not finite; `seconds`: of a pass over all images on the device.
    """

    modules: tuple[str, ...]
    count: int
    predicted: dict[str, float]
    observed: dict[str, float]
    predicted_rmse: float
    rmse: float
    seconds: float
    met: bool


@dataclasses.dataclass(frozen=True)
class Prescription:
    """What came of it.

    `tries`: in order; `chosen`: place of the smallest that meets the target, or, with `reason`
    (why none does, a sentence), of the best; `overflowing`: modules that numbers beyond the
    format's range need; `modules`: how many run operators.
    """

    case: Case
    target: str
    arithmetic: str
    device: DeviceInfo
    weights_sha256: str
    outputs: tuple[str, ...]
    modules: int
    overflowing: tuple[str, ...]
    tries: tuple[Try, ...]
    chosen: int
    reason: str = ""

    @property
    def met(self) -> bool:
        """Whether the target is reached."""
        return self.tries[self.chosen].met


def prescribe(
    sides: Sides, case: Case, target: Target, say: Callable[[str], None] = lambda text: None
) -> Prescription:
    """Find the smallest plan for a case that reaches a target on the device.

    Raises UsageProblem for a case without a reduced arithmetic, or a target about classes for a
    model without any; CaseProblem when the model does not run.
    """
    short = case.dtype in ("float16", "bfloat16")
    if not short and (case.dtype != "float32" or case.numerics != "default"):
        raise UsageProblem(
            "A plan keeps modules of a float16 or bfloat16 model in float32, or has them run "
            f"without HF32, not of {case.dtype} with {case.numerics} numerics: give --dtype "
            "float16 or bfloat16, or --dtype float32 --numerics default."
        )
    request = dataclasses.replace(
        sides.request(case), repeat=0, batch_checks=False, operator_share=0.0,
        operator_standard=False,
    )  # fmt: skip
    return _Search(sides, case, request, target, say).run()


class _Search:
    def __init__(
        self,
        sides: Sides,
        case: Case,
        request: LegRequest,
        target: Target,
        say: Callable[[str], None],
    ) -> None:
        self._sides, self._case, self._request = sides, case, request
        self._target, self._say = target, say
        self.tries: list[Try] = []
        self._chosen: list[Modules] = []
        # Outputs of both sides, and what their set left, of the last pair with numbers.
        self._base: tuple[Outputs, Outputs, tuple[float, ...]] | None = None

    def run(self) -> Prescription:
        self._say("pair 1: without a plan")
        device = self._on_device(())
        declared = arithmetic.declared(self._case.dtype, device.record.numerics)
        if declared.full:
            raise UsageProblem(
                f"{device.record.device.name} computes float32 without HF32 or TF32: no module "
                "needs a plan."
            )
        if device.logits is None and self._target.of_classes:
            raise UsageProblem(
                f"--target {self._target.text}: the model has no classes; give budget_ratio."
            )
        names = _names(device, every=self._target.of_all_outputs)
        self._say("shares")
        self._shares = shares = self._sides.cpu.shares(self._request, declared, names, DIRECTIONS)
        self._scale = self._scaled(device, declared, names)
        self._every = closure(shares.order, shares.order)
        self._note(frozenset(), device)
        needed, lost = search.overflowing(shares)
        reason = ""
        if not self.tries[0].met:
            if lost:
                reason = (
                    f"Numbers of {described(lost[0])} are beyond the range of {self._case.dtype} "
                    "in the model's own code, which no module holds: use bfloat16 or float32."
                )
            else:
                reason = self._find(needed)
        return Prescription(
            case=self._case,
            target=self._target.text,
            arithmetic=str(declared),
            device=device.record.device,
            weights_sha256=device.record.weights_sha256,
            outputs=names,
            modules=len(self._every),
            overflowing=search.roots(needed),
            tries=tuple(self.tries),
            chosen=self._best(),
            reason=reason,
        )

    def _find(self, needed: Modules) -> str:
        """Try sets until the smallest is found or the pairs are used up; returns why none is."""
        if needed and self._base is None:
            self._pair(needed)
        if self._base is None:
            return (
                "The device's numbers are not finite, and not for the range of "
                f"{self._case.dtype}: no plan is the remedy."
            )
        while len(self.tries) < (PAIRS - _GUESSES if self._met() else PAIRS):
            chosen = self._next(needed)
            if chosen is None:
                break
            self._pair(chosen)
        if self._met():
            self._try_guesses(needed)
            return ""
        return (
            f"{self._target.text} is not reached: not even with all {len(self._every)} modules in "
            "float32, for what the model's own code, its input and its result round is left."
        )

    def _met(self) -> bool:
        return any(one.met for one in self.tries)

    def _try_guesses(self, needed: Modules) -> None:
        """Spend the pairs that are left on as many modules from either end.

        What a set leaves is one draw: roundings that stay may cancel or add up, which no mean
        square tells, and so a set that is predicted to leave more may leave less.
        """
        count, order = self.tries[self._best()].count, self._shares.order
        guesses = {search.first(self._shares, count, some) for some in (order, order[::-1])}
        by_prediction = sorted(
            (max(self._shares.remaining(guess)), sorted(guess)) for guess in guesses
        )
        for _, paths in by_prediction[: PAIRS - len(self.tries)]:
            guess = frozenset(paths)
            if guess and needed <= guess and guess not in self._chosen:
                self._pair(guess)

    def _next(self, needed: Modules) -> Modules | None:
        """What to try: the smallest set that is predicted to do, by what was seen last.

        None where nothing smaller than what met the target is left, or nothing more at all.
        """
        met = min((one.count for one in self.tries if one.met), default=None)
        factor = self._wanted()
        chosen = self._smallest(factor, needed)
        while chosen is not None and chosen in self._chosen:
            if met is not None and len(chosen) >= met:
                return None
            factor *= _TIGHTER  # it was predicted to do, and did not
            chosen = self._smallest(factor, needed)
        if met is not None:
            return chosen if chosen is not None and len(chosen) < met else None
        # The last pair says whether any set does, where none was found to.
        if chosen is None or len(self.tries) == PAIRS - 1:
            chosen = self._every
        return None if chosen in self._chosen else chosen

    def _wanted(self) -> float:
        """The greatest factor on the errors without a plan for which the target would hold."""
        best = 0.0
        for step in range(_STEPS + 1):
            factor = step / _STEPS
            predicted = self._predicted([factor**2] * len(self._scale.cost))
            if not self._target.holds(predicted, self._without(predicted)):
                break
            best = factor
        return best

    def _without(self, values: dict[str, float]) -> dict[str, float]:
        """The metrics without a plan."""
        return self.tries[0].observed if self.tries else values

    def _predicted(self, left: Sequence[float]) -> dict[str, float]:
        """Metrics when a part of the mean square is left of each output."""
        assert self._base is not None
        cpu, device, before = self._base
        factors = {
            name: math.sqrt(now / max(then, 1e-12))
            for name, now, then in zip(self._scale.cost, left, before, strict=True)
        }
        return self._scale.values(self._scale.scaled(cpu, factors),
                                  self._scale.scaled(device, factors))  # fmt: skip

    def _smallest(self, factor: float, needed: Modules) -> Modules | None:
        counts = self._target.of_all_outputs
        limits = [
            factor**2 if counts or name == self._scale.logits else math.inf
            for name in self._scale.cost
        ]
        return search.smallest(self._shares, limits, needed)

    def _pair(self, chosen: Modules) -> Try:
        self._say(f"pair {len(self.tries) + 1}: {len(chosen)} modules in float32")
        return self._note(chosen, self._on_device(search.roots(chosen)))

    def _on_device(self, modules: tuple[str, ...]) -> LegResult:
        return self._sides.ask(dataclasses.replace(self._request, repeat=2, promoted=modules))

    def _note(self, chosen: Modules, device: LegResult) -> Try:
        """Hold a pair's device side against the CPU's, and keep what came out."""
        modules, names = search.roots(chosen), list(self._scale.cost)
        cpu = self._sides.cpu.reference(dataclasses.replace(self._request, promoted=modules))
        left = self._shares.remaining(modules)
        predicted = self._predicted(left) if self._base is not None else {}
        observed = self._scale.values(cpu.outputs, device.outputs)
        whole = not math.isnan(observed["budget_ratio"])
        first = names[0]
        found = Try(
            modules=modules,
            count=len(chosen),
            predicted=predicted,
            observed=observed,
            predicted_rmse=self._shares.rmse(first) * math.sqrt(left[0]),
            rmse=metrics.rmse(self._scale.oracle[first], device.outputs[first])
            if whole else math.nan,
            seconds=min(device.record.timing.forward_seconds),
            met=self._target.holds(observed, self.tries[0].observed if self.tries else observed),
        )  # fmt: skip
        if whole:
            self._base = _only(cpu.outputs, names), _only(device.outputs, names), left
        self.tries.append(found)
        self._chosen.append(chosen)
        return found

    def _scaled(self, device: LegResult, declared: Arithmetic, names: tuple[str, ...]) -> Scale:
        oracle = self._sides.cpu.oracle(self._request, declared.gelu)
        try:
            budget = self._sides.cpu.answers(self._request, declared).budget
        except CaseProblem as problem:
            if problem.status is not Status.FAIL_REFERENCE:
                raise
            budget = None  # numbers beyond the format's range: what the shares predict without
        cost = {
            name: metrics.rmse(oracle[name], budget.runs[0][name])
            if budget is not None
            else self._shares.rmse(name)
            for name in names
        }
        return Scale(oracle, cost, device.logits, self._request.inputs.labels)

    def _best(self) -> int:
        """The smallest set that meets the target, of several the one that comes nearest to float64.

        Where none meets it the one that comes nearest.
        """
        places = range(len(self.tries))
        met = [place for place in places if self.tries[place].met]

        def error(place: int) -> float:
            rmse = self.tries[place].rmse
            return math.inf if math.isnan(rmse) else rmse

        if met:
            return min(met, key=lambda place: (self.tries[place].count, error(place)))
        return min(places, key=lambda place: (error(place), self.tries[place].count))


def _names(device: LegResult, *, every: bool) -> tuple[str, ...]:
    """Outputs that count: the classifier's first, then, with `every`, all of floats."""
    floats = [name for name, array in device.outputs.items() if array.dtype.kind == "f"]
    first = device.logits or floats[0]
    return (first, *(name for name in floats if every and name != first))


def _only(outputs: Outputs, names: Sequence[str]) -> dict[str, Array]:
    return {name: outputs[name] for name in names}
