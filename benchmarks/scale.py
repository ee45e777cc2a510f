"""What a run of all of timm costs on many cards and hosts, by a model of measured parts.

    python -m benchmarks.scale RESULTS [--cores-per-card 24] [--card-macs 5e12] [--cached]
    python -m benchmarks.scale --sweep 1,2,4 [--device npu-emulated]

RESULTS: the records of a run of architectures.  What a case takes is fitted to them:

    seconds = fixed + load * parameters + reference * CPU pass + device * device pass
    pass    = start + rate * MACs * images

with no negative coefficient and least squares of the errors of logarithms; fitted to every second
case it predicts the others, which is printed first.  Then all architectures are scheduled as the
harness does it: hosts take shards by size (harness/runs/shards.py), the devices of a host take the
next case when they are free, the cores of a host are shared out.

What the records of an emulated device say about the device is replaced by `--card-macs`, an
assumption; the rest is the harness' and the host's.  `--sweep` runs small models with several
devices, predicts each time from the run with the first number, and prints both.
"""

from __future__ import annotations

import argparse
import dataclasses
import heapq
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

import harness  # noqa: F401  (before torch)
from benchmarks import measured, own_cost
from benchmarks.sweep import ARCHITECTURES
from harness.cases import architectures, sizes
from harness.cases.case import Case, InputSource, ModelSource
from harness.judgement.metrics import Array
from harness.records import results_file
from harness.records.lines import CaseRecord
from harness.runs import shards
from harness.system import processor, quantities

HOSTS = (1, 2, 4, 8, 16, 32, 64)
IMAGES = 6
# Of a pass on the CPU, what gains by more threads (Amdahl): an assumption, as is the card's rate.
PARALLEL = 0.95
PARTS = ("fixed", "load", "reference", "device")
_SWEPT = ARCHITECTURES[:12]


@dataclasses.dataclass(frozen=True)
class Work:
    """What a case is to compute."""

    parameters: float
    macs: float  # of one image
    images: int = IMAGES


@dataclasses.dataclass(frozen=True)
class Seen:
    """A case that was measured: seconds in all, and of one pass over the images on each side."""

    work: Work
    seconds: float
    cpu: float
    device: float


@dataclasses.dataclass(frozen=True)
class Costs:
    """Coefficients of the model, for one thread of the host; seconds a case has of each part."""

    fixed: float
    load: float  # a parameter
    cpu_passes: float
    device_passes: float
    cpu: tuple[float, float]  # seconds of a pass: start, a MAC
    device: tuple[float, float]

    def parts(self, work: Work) -> dict[str, float]:
        """Seconds of `PARTS`."""
        macs = work.macs * work.images
        return {
            "fixed": self.fixed,
            "load": self.load * work.parameters,
            "reference": self.cpu_passes * (self.cpu[0] + self.cpu[1] * macs),
            "device": self.device_passes * (self.device[0] + self.device[1] * macs),
        }

    def on(self, host: Host, work: Work) -> float:
        """Seconds of a case on one of a host's cards."""
        parts = self.parts(work)
        speed = 1 / (1 - PARALLEL + PARALLEL / host.cores_per_card)
        passes = 1 / self.cpu_passes if host.cached and self.cpu_passes > 1 else 1.0
        device = self.device_passes * work.macs * work.images / host.card_macs
        return parts["fixed"] + parts["load"] + passes * parts["reference"] / speed + device


@dataclasses.dataclass(frozen=True)
class Host:
    """A host: its cards, and what of its cores each has; `cached`: all references are there."""

    cards: int = 8
    cores_per_card: int = 24
    card_macs: float = 5e12  # multiplications and additions of a card in a second
    cached: bool = False
    start: float = 20.0  # seconds from the command to the first case


def fit(seen: Sequence[Seen]) -> Costs:
    """The coefficients of the measured cases; at least five of them."""
    macs = np.array([one.work.macs * one.work.images for one in seen])
    cpu, device = (np.array([getattr(one, side) for one in seen]) for side in ("cpu", "device"))
    ones = np.ones(len(seen))
    sides = [_relative([ones, macs], values) for values in (cpu, device)]
    parameters = np.array([one.work.parameters for one in seen])
    fixed, load, cpu_passes, device_passes = _relative(
        [ones, parameters, cpu, device], np.array([one.seconds for one in seen])
    )
    return Costs(fixed, load, cpu_passes, device_passes, *((a, b) for a, b in sides))


def _relative(columns: Sequence[Array], values: Array) -> list[float]:
    """Coefficients of at least 0 with the least sum of squares of the logarithms' errors.

    The logarithms', so that twice too much counts as half does; the start is the answer of
    non-negative least squares of relative errors, which is all too low where times scatter.
    """
    from scipy.optimize import least_squares, nnls

    matrix = np.stack(columns, axis=1)
    scales = matrix.max(axis=0)
    scaled = matrix / scales
    start, _ = nnls(scaled / values[:, None], np.ones(len(values)))

    def errors(coefficients: Array) -> Array:
        return np.log(scaled @ coefficients) - np.log(values)

    found = least_squares(errors, start + 1e-6 * values.mean(), bounds=(1e-12, np.inf)).x
    return [float(value) for value in found / scales]


def queued(seconds: Iterable[float], workers: int, start: float = 0.0) -> float:
    """When the last worker ends, where each takes the next case as it becomes free."""
    free = [start] * workers
    for length in seconds:
        heapq.heappush(free, heapq.heappop(free) + length)
    return max(free)


def sharded(seconds: Mapping[str, float], hosts: int, host: Host) -> float:
    """When the last of several hosts ends, each with a shard; `seconds`: by architecture."""
    images = InputSource("synthetic", count=IMAGES)
    cases = [Case(ModelSource("architecture", name), images) for name in seconds]
    return max(
        queued((seconds[case.model.ref] for case in part), host.cards, host.start)
        for part in shards.split(cases, sizes.weights(cases), hosts)
    )


def table(costs: Costs, works: Mapping[str, Work], host: Host) -> str:
    """Time and efficiency of all architectures on cards of one host, and on many hosts."""
    seconds = {name: costs.on(host, work) for name, work in works.items()}
    total, longest = sum(seconds.values()), max(seconds, key=lambda name: seconds[name])
    rows = []
    for hosts, cards in [(1, 1), (1, 2), (1, 4), *((hosts, host.cards) for hosts in HOSTS)]:
        taken = sharded(seconds, hosts, dataclasses.replace(host, cards=cards))
        any_free = queued(seconds.values(), hosts * cards, host.start)
        best = total / (hosts * cards)
        bound = "the work" if best > seconds[longest] else f"{longest} alone"
        rows.append(
            (str(hosts), str(hosts * cards), *(_hours(value) for value in (taken, any_free, best)),
             f"{best / taken:.0%}", bound)
        )  # fmt: skip
    header = ("hosts", "cards", "--shard, h", "one queue (Ray), h", "work / cards, h",
              "efficiency", "least time is that of")  # fmt: skip
    return measured.table(header, rows)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f}"


def all_of_timm() -> dict[str, Work]:
    """Every architecture whose size is stored."""
    stored = architectures.table()[1]
    return {
        name: Work(found.parameters, found.macs)
        for name, found in stored.items()
        if found.macs is not None
    }


def seen_in(records: Iterable[CaseRecord], works: Mapping[str, Work]) -> list[Seen]:
    """The cases of architectures that ran on both sides with nothing from the cache."""
    found = []
    for case in records:
        work = works.get(case.case.model.ref)
        if work is None or case.reference is None or case.candidate is None:
            continue
        cpu, device = case.reference.timing, case.candidate.timing
        if cpu.cached or not case.duration_seconds:
            continue
        found.append(
            Seen(
                dataclasses.replace(work, images=cpu.images),
                case.duration_seconds,
                statistics.median(cpu.forward_seconds),
                statistics.median(device.forward_seconds),
            )
        )
    return found


def check(seen: Sequence[Seen]) -> str:
    """How well the model of every second case predicts the others."""
    ordered = sorted(seen, key=lambda one: one.work.macs)
    costs, others = fit(ordered[::2]), ordered[1::2]
    ratios = sorted(sum(costs.parts(one.work).values()) / one.seconds for one in others)
    total = sum(sum(costs.parts(one.work).values()) for one in others)
    measured_total = sum(one.seconds for one in others)
    return (
        f"{len(others)} cases predicted from {len(ordered[::2])} others: {total:.0f} s beside "
        f"{measured_total:.0f} s measured ({total / measured_total:.2f}); of one case "
        f"{statistics.median(ratios):.2f} in the median, nine of ten within "
        f"{ratios[len(ratios) // 20]:.2f} to {ratios[-1 - len(ratios) // 20]:.2f}"
    )


def sweep(device: str, devices: Sequence[int], say: Callable[[str], None]) -> str:
    """A table of real sweeps with several devices, beside what the model says of each.

    Predicted: a case as long as with the first number of devices, and so much longer as all of
    them together want more processors than there are; emulated devices compute on the same ones.
    """
    rows, cores = [], len(processor.affinity())
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        cases = "".join(map(own_cost.case_text, _SWEPT))
        scratch.joinpath("case.toml").write_text(cases, encoding="utf-8")
        for count in (1, *devices):  # the first makes the models, and is not counted
            results = scratch / f"results{len(rows)}-{count}"
            load = os.getloadavg()[0]
            cost = measured.run(
                measured.python(
                    *("-m", "harness", "run", f"--device={device}", "-n", str(count)),
                    *(f"--case-file={scratch / 'case.toml'}", f"--results={results}"),
                    *("--reference-cache-size=0", "-p", "no:cacheprovider", "-q"),
                ),
                scratch,
                codes=(0, 1),
            )
            say(f"{count} devices: {cost.wall:.0f} s (processor {cost.processor:.0f} s)")
            seconds = [case.duration_seconds for case in results_file.read_run(results).cases]
            rows.append((count, cost, seconds, load))
    rows = rows[1:]
    first, cost, lengths, _ = rows[0]
    start = max(0.0, cost.wall - queued(lengths, first))
    used = cost.processor / cost.wall / first  # processors that a device's two sides keep busy
    shown = []
    for count, cost, _, load in rows:
        slower = max(1.0, count * used / cores) / max(1.0, first * used / cores)
        predicted = queued((length * slower for length in lengths), count, start * slower)
        shown.append(
            (str(count), f"{cost.wall:.0f}", f"{predicted:.0f}", f"{predicted / cost.wall:.2f}",
             f"{cost.processor:.0f}", f"{cost.memory / 1e6:.0f}", f"{load:.0f}")
        )  # fmt: skip
    return measured.table(
        ("devices", "wall, s", "predicted, s", "predicted / wall", "processor, s", "memory, MB",
         "load before"), shown,
    )  # fmt: skip


def main() -> int:
    """Print the model and the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="?")
    parser.add_argument("--device", default="npu-emulated")
    parser.add_argument("--sweep", metavar="N,N,...", help="run small models on so many devices")
    parser.add_argument("--cores-per-card", type=quantities.positive, default=Host.cores_per_card)
    parser.add_argument("--card-macs", type=float, default=Host.card_macs)
    parser.add_argument("--cached", action="store_true", help="all references are in the cache")
    given = parser.parse_args()
    if given.sweep:
        counts = [int(count) for count in given.sweep.split(",")]
        print(f"CPU: {measured.machine()}; device {given.device}")
        print(sweep(given.device, counts, lambda text: print(text, file=sys.stderr, flush=True)))
        return 0
    if given.results is None:
        parser.error("give the records of a run, or --sweep.")
    works = all_of_timm()
    seen = seen_in(results_file.read_run(given.results).cases, works)
    if len(seen) < 10:
        parser.error(f"{given.results} has {len(seen)} measured architectures, and 10 are needed.")
    costs = fit(seen)
    host = Host(cores_per_card=given.cores_per_card, card_macs=given.card_macs, cached=given.cached)
    totals = dict.fromkeys(PARTS, 0.0)
    for work in works.values():
        for part, value in costs.parts(work).items():
            totals[part] += value
    print(f"fitted to {len(seen)} cases: {costs}")
    print(check(seen))
    print(f"All {len(works)} architectures with one thread and the device of RESULTS, hours: "
          + ", ".join(f"{part} {_hours(value)}" for part, value in totals.items()))  # fmt: skip
    print(table(costs, works, host))
    return 0


if __name__ == "__main__":
    sys.exit(main())
