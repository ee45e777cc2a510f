"""How often a model whose calls are all qualified fails as a whole, and the reverse.

    python -m benchmarks.agreement --output reports/agreement.jsonl
        [--models N] [--broken N] [--largest GFLOP] [--read]

Models are the cheapest of each of timm's families, then the second cheapest of each.  Each runs on
the emulated NPU as a whole, judged by its outputs alone, and its distinct calls run one by one,
judged as `operators run` does: with the CPU's own kernels, with `cann`, with one other honest set
and with `--broken` broken kernels of operators that it calls, drawn by the model's name.  Both
answers are of the same kernels.  Rows are appended, one JSON object a line; those that the output
has are not measured again; `--read` measures nothing.  All of it is EMULATED.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import harness  # noqa: F401  (before torch)
from benchmarks.operators import BROKEN_NAMES, Measure
from harness.cases import architectures
from harness.cases.case import Case, InputSource, ModelSource
from harness.detection.sensitivity import same, worst_ratio
from harness.devices import emulated_kernels
from harness.devices.broken_kernels import BROKEN
from harness.devices.choice import choose
from harness.devices.npu import TakeKernels
from harness.execution.settings import RunSettings
from harness.execution.sides import Sides
from harness.judgement.metrics import Array
from harness.qualification import catalogue
from harness.qualification.outcomes import Outcome, settled
from harness.qualification.signatures import parse
from harness.system.status import CaseProblem, Status

_FORMAT = "float32"
_MOST_MACS = 2e9


@dataclasses.dataclass(frozen=True)
class Row:
    """One model with one set of kernels.

    `failed`, `unjudged`: of its distinct `calls`; `whole`: the model's status, `ratio`: its budget
    ratio, `changed`: whether its outputs differ in any bit from those with the CPU's own kernels;
    `first`: reason of the failing call that is furthest off; `seconds`: on this machine.
    """

    model: str
    kernels: str
    calls: int
    failed: int
    unjudged: int
    whole: str
    changed: bool
    ratio: float | None = None
    first: str = ""
    seconds: float = 0.0

    @property
    def broken(self) -> bool:
        """Whether the kernels are wrong."""
        return self.kernels.startswith(emulated_kernels.BROKEN_PREFIX)

    @property
    def passes(self) -> bool | None:
        """Whether the whole model passes; None where it has no verdict."""
        status = Status(self.whole)
        return None if status.is_error or status is Status.INCONCLUSIVE else status is Status.PASS


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=60, metavar="N")
    parser.add_argument("--broken", type=int, default=3, metavar="N")
    parser.add_argument("--largest", type=float, default=0.2, metavar="GFLOP")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    parser.add_argument("--read", action="store_true")
    given = parser.parse_args(arguments)
    rows = read(given.output)
    if not given.read:
        for row in measured(given.models, given.broken, given.largest * 1e9, rows):
            rows.append(row)
            with given.output.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(dataclasses.asdict(row)) + "\n")
            print(row, file=sys.stderr, flush=True)
    print(summary(rows))
    return 0


def measured(models: int, broken: int, largest: float, known: Sequence[Row]) -> Iterator[Row]:
    """Rows that are not known yet, model by model."""
    have = {(row.model, row.kernels) for row in known}
    whole = catalogue.for_installed(None, _FORMAT)
    spec = choose("npu-emulated").spec
    sides = Sides(RunSettings(spec, operator_share=0.0, emulated_kernels=emulated_kernels.ATEN))
    calls = Measure(sides.worker, _FORMAT, largest)
    try:
        for name in cheapest(models):
            part = whole.part({name})
            wanted = kernels_for(name, part.signatures.values(), broken)
            if any((name, kernels) not in have for kernels in wanted):
                yield from (
                    row
                    for row in _of_model(sides, calls, name, dict(part.signatures), wanted)
                    if (name, row.kernels) not in have
                )
    finally:
        sides.close()


def _of_model(
    sides: Sides, measure: Measure, name: str, calls: dict[str, str], wanted: Sequence[str]
) -> Iterator[Row]:
    case = Case(ModelSource("architecture", name), InputSource("synthetic"), numerics="strict")
    clean: Mapping[str, Array] | None = None
    default: dict[str, Outcome] = {}
    for kernels in wanted:
        began = time.perf_counter()
        sides.worker.ask(TakeKernels(kernels), sides.timeout)
        ratio, changed = None, False
        try:
            request = dataclasses.replace(sides.request(case), repeat=0, batch_checks=False)
            candidate = sides.ask(request)
            clean = candidate.outputs if clean is None else clean
            changed = not same(clean, candidate.outputs)
            judged = sides.judge(request, candidate)
            status, ratio = judged.status, worst_ratio(judged)[0]
        except CaseProblem as problem:
            status = problem.status
        found = measure.outcomes(kernels, calls, default)
        if not default:
            default = found
        now = [settled(item, default.get(call)) for call, item in found.items()]
        failed = [item for item in now if item.status not in (Status.PASS, Status.SKIP)]
        worst = max(failed, key=lambda item: item.worst_ratio or 0.0, default=None)
        yield Row(
            model=name,
            kernels=kernels,
            calls=len(calls),
            failed=len(failed),
            unjudged=sum(item.status is Status.SKIP for item in now) + len(calls) - len(now),
            whole=status.value,
            changed=changed,
            ratio=ratio,
            first="" if worst is None else f"{parse(worst.signature).operator}: {worst.reason}",
            seconds=round(time.perf_counter() - began, 1),
        )


def cheapest(count: int) -> list[str]:
    """The cheapest architecture of each family, then the second cheapest of each, and so on.

    Families and members beyond 2 GMAC an image are left out.
    """
    families: dict[str, list[tuple[int, str]]] = {}
    for row in architectures.table()[1].values():
        if row.macs is not None and row.macs <= _MOST_MACS:
            families.setdefault(row.family, []).append((row.macs, row.name))
    ranked = [(rank, *one) for found in families.values() for rank, one in enumerate(sorted(found))]
    return [name for _, _, name in sorted(ranked)[:count]]


def kernels_for(model: str, calls: Iterable[str], broken: int) -> list[str]:
    """The CPU's own kernels first, `cann`, an honest set and broken ones, drawn by the name."""

    def drawn(names: Iterable[str]) -> list[str]:
        return sorted(names, key=lambda name: hashlib.sha256(f"{model} {name}".encode()).digest())

    operators = {parse(text).operator for text in calls}
    mine = [name for name in BROKEN_NAMES if any(
        BROKEN[name.removeprefix(emulated_kernels.BROKEN_PREFIX)].gives(one) for one in operators
    )]  # fmt: skip
    honest = drawn(emulated_kernels.HONEST)[:1]
    return [emulated_kernels.ATEN, emulated_kernels.CANN, *honest, *drawn(mine)[:broken]]


def read(path: Path) -> list[Row]:
    """Rows that are measured already."""
    if not path.exists():
        return []
    return [Row(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def summary(rows: Sequence[Row]) -> str:
    """Both rates with what they are of."""
    judged = [row for row in rows if row.passes is not None]
    lines = [
        "EMULATED: no evidence about NPU hardware",
        f"{len({row.model for row in rows})} models, {len(rows)} pairs of a model and kernels, "
        f"{len(rows) - len(judged)} of them without a verdict on the whole",
    ]
    for what, of in (("honest", False), ("broken", True)):
        own = [row for row in judged if row.broken is of]
        qualified = [row for row in own if not row.failed]
        disqualified = [row for row in own if row.failed]
        lines += [
            f"{what} kernels: {sum(not row.passes for row in qualified)} of {len(qualified)} whose "
            f"calls do not fail fail as a whole ({sum(not row.changed for row in qualified)} of "
            "them with the same outputs bit by bit as with the CPU's own kernels)",
            f"{what} kernels: {sum(bool(row.passes) for row in disqualified)} of "
            f"{len(disqualified)} with a failing call pass as a whole",
        ]
    lines += [
        f"fails as a whole, calls qualified: {row.model}, {row.kernels}: {row.whole}, {row.ratio}"
        for row in judged
        if not row.failed and not row.passes
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
