"""What the qualification of operators finds: broken kernels of the emulated NPU, and honest ones.

    python -m benchmarks.operators --catalogue FILE --output reports/operator-power.jsonl
        [--kernels honest,broken,onnxruntime,NAME,...] [--largest GFLOP] [--calls N]

Every call runs once with the CPU's own kernels.  With others only those of their operators run, and
only those whose bits changed are judged, as an upgrade does it.  Broken kernels are effective where
any bit changed, and found where a call fails whose bits changed; honest ones give a false alarm
where any call fails.  Kernels may be an inference engine's (`detection/engines.py`), in this
process: calls that it does not take are left out.  `--calls`: at most so many calls a kernel
family, spread over its shapes.  Rows are appended, one JSON object a line; those that the output
has are not measured again.  All of it is EMULATED.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import harness  # noqa: F401  (before torch)
from harness.detection.engines import ENGINES, EngineDevice, open_engine
from harness.devices import emulated_kernels
from harness.devices.broken_kernels import BROKEN
from harness.devices.choice import choose
from harness.devices.npu import TakeKernels
from harness.execution.worker import DeviceWorker
from harness.qualification import catalogue
from harness.qualification.device_requests import Batch, Describe
from harness.qualification.grouping import family
from harness.qualification.outcomes import Outcome, settled
from harness.qualification.signatures import parse
from harness.system.status import Status

_SECONDS = 3600.0
BROKEN_NAMES = [emulated_kernels.BROKEN_PREFIX + name for name in BROKEN]


@dataclasses.dataclass(frozen=True)
class Row:
    """One set of kernels: calls that ran, whose bits changed, and that failed.

    `unjudged`: of the changed ones; `worst`: the failing call that is furthest off, with its
    reason; `seconds`: of all calls, on this machine.
    """

    kernels: str
    calls: int
    changed: int
    failed: int
    unjudged: int = 0
    worst: str = ""
    seconds: float = 0.0

    @property
    def broken(self) -> bool:
        """Whether the kernels are wrong."""
        return self.kernels.startswith(emulated_kernels.BROKEN_PREFIX)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 0 when no honest kernels failed, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--catalogue", type=Path, required=True, metavar="FILE")
    parser.add_argument("--kernels", default="honest,broken", metavar="A,B,...")
    parser.add_argument("--largest", type=float, default=0.05, metavar="GFLOP")
    parser.add_argument("--calls", type=int, default=1 << 30, metavar="N")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    given = parser.parse_args(arguments)
    found = catalogue.read(given.catalogue)
    calls = chosen(found.signatures, given.calls)
    rows = read(given.output)
    names = {"honest": list(emulated_kernels.HONEST), "broken": BROKEN_NAMES}
    wanted = [name for part in given.kernels.split(",") for name in names.get(part, [part])]
    worker = DeviceWorker(choose("npu-emulated").spec)
    try:
        measure = Measure(worker, found.header.dtype, given.largest * 1e9)
        default = measure.outcomes(emulated_kernels.ATEN, calls, {})
        for name in wanted:
            if name not in rows:
                rows[name] = measure.row(name, calls, default)
                with given.output.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(dataclasses.asdict(rows[name])) + "\n")
                print(rows[name], file=sys.stderr, flush=True)
    finally:
        worker.stop()
    shown = [rows[name] for name in wanted]
    print(summary(shown))
    return int(any(row.failed for row in shown if not row.broken))


class Measure:
    """Runs calls with kernels of a name."""

    def __init__(self, worker: DeviceWorker, dtype: str, largest: float) -> None:
        self._worker, self._dtype, self._largest = worker, dtype, largest

    def outcomes(
        self, kernels: str, calls: dict[str, str], known: dict[str, Outcome]
    ) -> dict[str, Outcome]:
        """Of every call; those of a batch that a device error cut short are left out."""
        bits = {
            name: {which: (item.bits, item.inputs) for which, item in outcome.sets.items()}
            for name, outcome in known.items()
        }
        if kernels in ENGINES:
            device = EngineDevice(open_engine(kernels), self._dtype)
            alone = (
                Batch({name: text}, self._dtype, "strict", {}, bits, largest=self._largest)
                for name, text in calls.items()  # what is not taken ends a batch
            )
            found = [item for one in alone for item in one.answer(device, lambda stage: None)]
            return {item.id: item for item in found if item.status is not Status.FAIL_UNSUPPORTED}
        self._worker.ask(TakeKernels(kernels), _SECONDS)
        _, read = self._worker.ask(Describe("strict"), _SECONDS)
        batch = Batch(calls, self._dtype, "strict", read, bits, largest=self._largest)
        return {item.id: item for item in self._worker.ask(batch, _SECONDS)}

    def row(self, kernels: str, calls: dict[str, str], default: dict[str, Outcome]) -> Row:
        """What a set of kernels changes, and what of it is found."""
        broken = BROKEN.get(kernels.removeprefix(emulated_kernels.BROKEN_PREFIX))
        mine = {
            name: text
            for name, text in calls.items()
            if name in default and (broken is None or broken.gives(parse(text).operator))
        }
        began = time.perf_counter()
        got = self.outcomes(kernels, mine, default)
        changed = [
            settled(item, default[name])
            for name, item in got.items()
            if any(part.judged for part in item.sets.values()) or item.status is Status.SKIP
        ]
        passing = (Status.PASS, Status.SKIP)
        # What fails with the CPU's own kernels as well is none of these kernels' doing.
        failed = [
            item
            for item in changed
            if item.status not in passing and default[item.id].status in passing
        ]
        skipped = [item for item in changed if item.status is Status.SKIP and item.sets]
        worst = max(failed, key=lambda item: item.worst_ratio or 0.0, default=None)
        return Row(
            kernels=kernels,
            calls=len(got),
            changed=sum(bool(item.sets) for item in changed),
            failed=len(failed),
            unjudged=len(skipped),
            worst="" if worst is None else f"{worst.signature}: {worst.reason}",
            seconds=round(time.perf_counter() - began, 1),
        )


def chosen(calls: dict[str, str], most: int) -> dict[str, str]:
    """At most so many calls of each kernel family, evenly from those in the order of their text."""
    by_family: dict[str, list[str]] = {}
    for name, text in sorted(calls.items(), key=lambda pair: pair[1]):
        by_family.setdefault(family(text), []).append(name)
    kept = {
        names[number * len(names) // min(most, len(names))]
        for names in by_family.values()
        for number in range(min(most, len(names)))
    }
    return {name: text for name, text in calls.items() if name in kept}


def read(path: Path) -> dict[str, Row]:
    """Rows that are measured already."""
    if not path.exists():
        return {}
    rows = [Row(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    return {row.kernels: row for row in rows}


def summary(rows: Sequence[Row]) -> str:
    """Both rates, and by name what was not found and what was a false alarm."""
    broken = [row for row in rows if row.broken and row.changed]
    found = [row for row in broken if row.failed]
    honest = [row for row in rows if not row.broken]
    alarms = [row for row in honest if row.failed]
    lines = [
        "EMULATED: no evidence about NPU hardware",
        f"{len(found)} of {len(broken)} effective broken kernels found "
        f"({sum(row.broken for row in rows) - len(broken)} more change no call of this catalogue)",
        f"{len(alarms)} of {len(honest)} honest sets of kernels give a false alarm "
        f"({sum(row.changed for row in honest)} calls whose bits they change)",
    ]
    lines += [f"not found: {row.kernels}, {row.changed} calls changed" for row in broken if
              not row.failed]  # fmt: skip
    lines += [f"false alarm: {row.kernels}, {row.failed} calls, {row.worst}" for row in alarms]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
