"""How much of a run's wall time a warm reference cache saves: cold and warm runs side by side.

    python benchmarks/warm_cache.py [--tier core] [--device npu-emulated] [--rounds 3]

Every round runs the cases in processes of their own, once with an empty reference cache and once
more with what that left, so that a slow minute of the machine meets both.  Models, the emulator's
build and the disk's own cache are warm in either: only the references and inputs are not.  Prints
wall seconds and their ratio a round, the same of processor seconds, which other work on the machine
disturbs less, and where the seconds of a warm run go.
"""

from __future__ import annotations

import argparse
import collections
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.records import results_file
from harness.system import quantities

ROOT = Path(__file__).parents[1]
TARGET = 0.6


def main() -> int:
    """Run the rounds and print; 0 when the wanted ratio is met, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tier", default="core")
    parser.add_argument("--device", default="npu-emulated")
    parser.add_argument("--rounds", type=quantities.positive, default=3)
    parser.add_argument("more", nargs="*", help="further options of pytest, after --")
    given = parser.parse_args()
    wanted = [f"--device={given.device}", f"--tier={given.tier}", *given.more]

    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        run(wanted, scratch / "unmeasured", scratch / "results")  # makes models, builds, pages in
        ratios, processor, warm_runs = [], [], []
        for round_ in range(1, given.rounds + 1):
            cache = scratch / f"cache{round_}"
            cold, cold_cpu, first = run(wanted, cache, scratch / "results")
            warm, warm_cpu, second = run(wanted, cache, scratch / "results")
            check(first, second)
            ratios.append(warm / cold)
            processor.append(warm_cpu / cold_cpu)
            warm_runs.append((warm, second))
            print(
                f"round {round_}: cold {cold:.1f} s, warm {warm:.1f} s, ratio {ratios[-1]:.2f}; "
                f"processor {cold_cpu:.1f} s, {warm_cpu:.1f} s, ratio {processor[-1]:.2f}",
                flush=True,
            )
    ratio = statistics.median(ratios)
    met = "yes" if ratio <= TARGET else "NO"
    print(
        f"median ratio {ratio:.2f} (range {min(ratios):.2f} to {max(ratios):.2f}) over "
        f"{len(second.cases)} cases; wanted at most {TARGET}: {met}; "
        f"processor seconds {statistics.median(processor):.2f}"
    )
    left(*min(warm_runs, key=lambda found: found[0]))
    return 0 if ratio <= TARGET else 1


def run(wanted: list[str], cache: Path, results: Path) -> tuple[float, float, results_file.Run]:
    """One run in a process of its own: wall seconds, processor seconds, records."""
    command = [sys.executable, "-m", "harness", "run", *wanted, f"--reference-cache={cache}",
               f"--results={results}", "-p", "no:cacheprovider"]  # fmt: skip
    before = os.times()
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
    after = os.times()
    processor = sum(after[2:4]) - sum(before[2:4])  # of ended children, theirs included
    return seconds, processor, results_file.read(results / "results.jsonl")


def check(cold: results_file.Run, warm: results_file.Run) -> None:
    """The two runs are what they are called, and came to the same verdicts."""
    for one, other in zip(cold.cases, warm.cases, strict=True):
        assert one.reference is not None and other.reference is not None
        assert not one.reference.timing.cached, one.case_id
        assert other.reference.timing.cached, other.case_id
        assert (one.case_id, one.status) == (other.case_id, other.status)
        assert [o.rmse for o in one.outputs] == [o.rmse for o in other.outputs]


def left(seconds: float, warm: results_file.Run) -> None:
    """Say where a warm run's wall time goes, from its records."""
    parts: collections.Counter[str] = collections.Counter()
    for case in warm.cases:
        assert case.candidate is not None
        timing = case.candidate.timing
        parts["timed and first forwards on the device"] += (
            sum(timing.forward_seconds) + timing.first_forward_seconds
        )
        parts["cases in all"] += case.duration_seconds
    cases = parts["cases in all"]
    parts["start of Python, torch, pytest; report"] = seconds - cases
    parts["rest of the cases: start of the device, loading, batch checks, comparison"] = (
        cases - parts["timed and first forwards on the device"]
    )
    print(f"left of the fastest warm run's {seconds:.1f} s:")
    for name, part in parts.items():
        print(f"  {part:6.1f} s  {name}")


if __name__ == "__main__":
    sys.exit(main())
