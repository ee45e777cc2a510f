"""Conditions that fail a comparison: `budget_ratio>1.5x, speed<0.9x`.

    expression = term ("," term)*
    term       = metric (">" | "<" | ">=" | "<=") number ["x"]

With `x` the number is relative to the old run (new / old), without it the new run's own value.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import re
from collections.abc import Callable, Mapping

from harness.system.status import UsageProblem

# Metric -> what it is and its unit.
METRICS: Mapping[str, str] = {
    "budget_ratio": "greatest budget ratio over outputs and images",
    "error_rate": "documented error rate, percent",
    "mae": "mean absolute error of the probabilities",
    "top1": "Top-1 agreement, percent",
    "speed": "device throughput, images a second",
}
OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)(?P<x>x\b)?"
    r"|(?P<name>[A-Za-z_]\w*)|(?P<operator>[<>]=?)|(?P<comma>,))"
)


@dataclasses.dataclass(frozen=True)
class Term:
    """One condition; `text` is as written."""

    metric: str
    operator: str
    number: float
    relative: bool
    text: str

    def holds(self, value: float) -> bool:
        """Whether the condition is met, so that the comparison fails; NaN meets every one."""
        return math.isnan(value) or OPERATORS[self.operator](value, self.number)


def parse(text: str, option: str = "--fail-on") -> tuple[Term, ...]:
    """Parse an expression.  Raises UsageProblem that points at the column of what is wrong."""
    tokens = _tokens(text, option)
    terms: list[Term] = []
    while True:
        start, metric = _take(tokens, "name", text, option, "a metric")
        if metric not in METRICS:
            known = f"unknown metric {metric!r}; known: {', '.join(METRICS)}"
            raise _problem(text, option, start, known)
        _, sign = _take(tokens, "operator", text, option, "one of > < >= <=")
        column, number = _take(tokens, "number", text, option, "a number, as in 1.5 or 1.5x")
        relative = number.endswith("x")
        end = column + len(number)
        value = float(number.removesuffix("x"))
        terms.append(Term(metric, sign, value, relative, text[start:end].strip()))
        if tokens[0][0] == "end":
            return tuple(terms)
        _take(tokens, "comma", text, option, "a comma or the end")


def _tokens(text: str, option: str) -> list[tuple[str, int, str]]:
    """Kind, position and text of every token; an "end" closes the list."""
    found = []
    position = 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            at = position + len(text[position:]) - len(text[position:].lstrip())
            raise _problem(text, option, at, f"{text[at]!r} does not belong here")
        kind = next(name for name in ("number", "name", "operator", "comma") if match[name])
        found.append((kind, match.start(kind), match[kind] + (match["x"] or "")))
        position = match.end()
    return [*found, ("end", len(text), "")]


def _take(
    tokens: list[tuple[str, int, str]], kind: str, text: str, option: str, wanted: str
) -> tuple[int, str]:
    found, position, value = tokens[0]
    if found != kind:
        seen = "the end" if found == "end" else repr(value)
        raise _problem(text, option, position, f"expected {wanted}, found {seen}")
    del tokens[0]
    return position, value


def _problem(text: str, option: str, position: int, what: str) -> UsageProblem:
    return UsageProblem(f"{option}, column {position + 1}: {what}.\n  {text}\n  {' ' * position}^")
