"""Targets of a prescription: conditions, in the grammar of --compare-fail, that are to hold."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from harness.judgement import metrics
from harness.judgement.documented import documented_gate
from harness.judgement.metrics import Array
from harness.system.status import UsageProblem
from harness.upgrade import conditions
from harness.upgrade.conditions import Term

_METRICS = ("budget_ratio", "error_rate", "mae", "top1")
_GREATEST = {"top1": 100.0}  # percent; the others have no end, and none is below 0
_OF_CLASSES = ("error_rate", "mae", "top1")

Outputs = Mapping[str, Array]


@dataclasses.dataclass(frozen=True)
class Target:
    """Conditions that are all to hold; numbers with `x` are relative to the run without a plan."""

    text: str
    terms: tuple[Term, ...]

    @property
    def of_classes(self) -> bool:
        """Whether a condition is about classes."""
        return any(term.metric in _OF_CLASSES for term in self.terms)

    @property
    def of_all_outputs(self) -> bool:
        """Whether a condition is about every output, not the classifier's alone."""
        return any(term.metric == "budget_ratio" for term in self.terms)

    def holds(self, values: Mapping[str, float], without: Mapping[str, float]) -> bool:
        """Whether all hold for `values` by metric; what is not a number never does."""
        return all(
            not math.isnan(value) and conditions.OPERATORS[term.operator](value, term.number)
            for term in self.terms
            for value in (
                metrics.quotient(values[term.metric], without[term.metric])
                if term.relative
                else values[term.metric],
            )
        )


def parse(text: str) -> Target:
    """Parse a target.  Raises UsageProblem, with the column of what is wrong."""
    terms = conditions.parse(text, "--target")
    for term in terms:
        if term.metric not in _METRICS:
            raise UsageProblem(
                f"--target: no plan brings {term.metric}; known: {', '.join(_METRICS)}."
            )
        least, greatest = 0.0, _GREATEST.get(term.metric, math.inf)
        nearest = min(max(term.number, least), greatest)
        holds = conditions.OPERATORS[term.operator]
        if not term.relative and not any(
            holds(value, term.number) for value in (least, nearest, greatest)
        ):
            raise UsageProblem(
                f"--target: {term.metric} is never {term.operator} {term.number:g}: it goes from "
                f"{least:g} to {greatest:g}."
            )
    return Target(text, terms)


@dataclasses.dataclass(frozen=True)
class Scale:
    """What outputs are held against.

    `oracle`: float64, [N, ...]; `cost`: rmse of each output where the whole model is in the short
    dtype, as the CPU imitates it; `logits`: the classifier's output, None without one; `labels`: of
    the images.
    """

    oracle: Outputs
    cost: Mapping[str, float]
    logits: str | None
    labels: Sequence[str]

    def values(self, cpu: Outputs, device: Outputs) -> dict[str, float]:
        """The metrics, by name; NaN where an output has a number that is not finite.

        `budget_ratio`: the greatest over the outputs of rmse(device - float64) / cost.
        """
        names = list(self.cost)
        broken = any(
            metrics.count_nonfinite(side[name]) for name in names for side in (cpu, device)
        )
        found = dict.fromkeys(_METRICS, math.nan)
        if broken:
            return found
        found["budget_ratio"] = max(
            metrics.quotient(metrics.rmse(self.oracle[name], device[name]), self.cost[name])
            for name in names
        )
        if self.logits is not None:
            gate = documented_gate(cpu[self.logits], device[self.logits], self.labels)
            found["error_rate"] = gate.error_rate_percent
            found["mae"] = gate.mae
            found["top1"] = gate.top1_agreement_percent
        return found

    def scaled(self, outputs: Outputs, factors: Mapping[str, float]) -> dict[str, Array]:
        """Outputs whose errors against float64 are multiplied, each by its own factor."""
        return {
            name: self.oracle[name] + factors[name] * (outputs[name] - self.oracle[name])
            for name in self.cost
        }
