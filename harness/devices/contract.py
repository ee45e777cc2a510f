"""What CANN accepts on a 910B, as published: one table of facts, for the emulator and `support`.

`contract.csv` has a row for a group of aclnn operators and their arguments: which dtypes and ranks
they take, a further limit, the code that the first phase answers else, and the source of the fact
at a tag of CANN's repositories: "read" in the code that checks, or said by a document ("doc").
None of it was measured on a card, and what a kernel refuses later (tiling) is not in it.

Arguments have the names of the emulator's OP lines, the first result is "out".  Limits:

=======================  ==========================================================================
each A..B                every number of an attribute lies in A to B, both included; "A.." is open
sizes A..B               every dimension of a tensor does
same dtype as X          as the argument X
dtype or float32 of X    the dtype of X, or float32
broadcasts with X        its shape broadcasts with that of X
same value as X          number by number; a single one of X stands for all
at most X                likewise
at most half of X        likewise, rounded down
=======================  ==========================================================================

`src/contract.cpp` holds an operator of the emulator to the same rules.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_PATH = Path(__file__).with_name("contract.csv")
_DTYPES = {
    **{"f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64", "b": "bool"},
    **{f"i{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"u{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{"c64": "complex64", "c128": "complex128"},
}


@dataclasses.dataclass(frozen=True)
class Rule:
    """One fact about one argument of one operator.

    `dtypes`: by torch's names, empty: not limited here; `ranks`: least and greatest number of
    dimensions, None: not limited; `limit`: see the module, "" for none; `code`: ACL's answer;
    `source`: path in CANN's repositories at `tag`; `basis`: "read" or "doc".
    """

    operator: str
    argument: str
    dtypes: tuple[str, ...]
    ranks: tuple[int, int] | None
    limit: str
    code: int
    source: str
    tag: str
    basis: str

    @property
    def cited(self) -> str:
        """Where the fact can be checked, in words."""
        return f"CANN {self.tag}, {self.source}" + ", documented" * (self.basis == "doc")


@dataclasses.dataclass(frozen=True)
class Tensor:
    """What the contract looks at of a tensor: its dtype by torch's name, and its shape."""

    dtype: str
    shape: tuple[int, ...]


# The tensors or the numbers of an argument; empty where it is not given.
Argument = Sequence[Tensor] | Sequence[int]


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A rule that arguments break, and how: "int16 is none of float32, float16"."""

    rule: Rule
    problem: str

    def __str__(self) -> str:
        rule = self.rule
        return f"aclnn{rule.operator} refuses {rule.argument}: {self.problem} ({rule.cited})"


@functools.cache
def rules() -> Mapping[str, tuple[Rule, ...]]:
    """All rules by operator, the name without "aclnn", in the order of the table."""
    found: dict[str, list[Rule]] = {}
    with _PATH.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            for operator in row["operators"].split():
                for argument in row["arguments"].split():
                    found.setdefault(operator, []).append(_rule(row, operator, argument))
    return {operator: tuple(own) for operator, own in found.items()}


def _rule(row: Mapping[str, str], operator: str, argument: str) -> Rule:
    least, _, most = row["ranks"].partition("-")
    return Rule(
        operator=operator,
        argument=argument,
        dtypes=tuple(_DTYPES[name] for name in row["dtypes"].split()),
        ranks=(int(least), int(most or least)) if least else None,
        limit=row["limit"],
        code=int(row["code"]),
        source=row["source"],
        tag=row["tag"],
        basis=row["basis"],
    )


def to_wire() -> str:
    """The rules as the C++ side reads them: a line each, fields separated by tabs."""
    lines = []
    for own in rules().values():
        for rule in own:
            least, most = rule.ranks or (0, -1)
            fields = (rule.operator, rule.argument, " ".join(rule.dtypes), least, most)
            lines.append("\t".join(map(str, (*fields, rule.limit, rule.code, rule.cited))) + "\n")
    return "".join(lines)


def refusals(operator: str, arguments: Mapping[str, Argument]) -> list[Refusal]:
    """The rules that a call breaks, in the order of the table; CANN answers with the first.

    An operator without rules breaks none: see `unruled`.
    """
    found = []
    for rule in rules().get(operator, ()):
        problem = next(_problems(rule, arguments.get(rule.argument, ()), arguments), "")
        if problem:
            found.append(Refusal(rule, problem))
    return found


def unruled(operator: str, arguments: Mapping[str, Argument]) -> list[str]:
    """The tensor arguments of a call of whose dtype no rule speaks; results are not asked about."""
    known = {rule.argument for rule in rules().get(operator, ()) if rule.dtypes}
    return [
        name
        for name, value in arguments.items()
        if name != "out" and name not in known and any(isinstance(one, Tensor) for one in value)
    ]


def _problems(rule: Rule, given: Argument, arguments: Mapping[str, Argument]) -> Iterator[str]:
    for one in given:
        if isinstance(one, Tensor):
            if rule.dtypes and one.dtype not in rule.dtypes:
                yield f"{one.dtype} is none of {', '.join(rule.dtypes)}"
            if rule.ranks and not rule.ranks[0] <= len(one.shape) <= rule.ranks[1]:
                least, most = rule.ranks
                yield f"{len(one.shape)} dimensions are not in {least}..{most}"
            yield from _beyond_of_tensor(rule.limit, one, arguments)
    numbers = [one for one in given if not isinstance(one, Tensor)]
    yield from _beyond_of_numbers(rule.limit, numbers, arguments)


def _beyond_of_tensor(limit: str, one: Tensor, arguments: Mapping[str, Argument]) -> Iterator[str]:
    kind, _, rest = limit.partition(" ")
    if kind == "sizes":
        yield from (f"the size {size} is not in {rest}" for size in one.shape if _out(rest, size))
        return
    name = limit.rpartition(" ")[2]
    other = next((item for item in arguments.get(name, ()) if isinstance(item, Tensor)), None)
    if other is None:
        return
    if limit.startswith("same dtype") and one.dtype != other.dtype:
        yield f"{one.dtype} is not the dtype of {name}, {other.dtype}"
    if limit.startswith("dtype or float32") and one.dtype not in ("float32", other.dtype):
        yield f"{one.dtype} is neither float32 nor the dtype of {name}, {other.dtype}"
    if kind == "broadcasts":
        pairs = zip(reversed(one.shape), reversed(other.shape), strict=False)
        if any(a != b and 1 not in (a, b) for a, b in pairs):
            yield f"its shape does not broadcast with that of {name}"


def _beyond_of_numbers(
    limit: str, numbers: Sequence[int], arguments: Mapping[str, Argument]
) -> Iterator[str]:
    kind, _, rest = limit.partition(" ")
    if kind == "each":
        yield from (f"the value {n} is not in {rest}" for n in numbers if _out(rest, n))
    if not limit.startswith(("at most", "same value")):
        return
    name = limit.rpartition(" ")[2]
    bounds = [one for one in arguments.get(name, ()) if not isinstance(one, Tensor)]
    for place, number in enumerate(numbers if bounds else ()):
        bound = bounds[min(place, len(bounds) - 1)]
        if limit.startswith("same value"):
            broken, what = number != bound, "the same as"
        elif limit.startswith("at most half of"):
            broken, what = number > bound // 2, "at most half of"
        else:
            broken, what = number > bound, "at most"
        if broken:
            yield f"the value {number} is not {what} {name}, {bound}"


def _out(limits: str, number: int) -> bool:
    least, _, most = limits.partition("..")
    return number < int(least) or bool(most) and number > int(most)
