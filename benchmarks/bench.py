"""What the harness costs, beside what the same work costs without it and with other tools.

    make bench    or    python -m benchmarks.bench [--only a,b,...] [--rounds 3] [--update]

(a) a cold run of pytest over one case, (b) a warm one, beside a bare script; (c) collection of
1,000 cases; (d) verdict and metrics beside a forward; (e) the same comparison by Polygraphy and by
msprobe: cost, and which planted faults each catches; (f) a case with its operators one by one
beside the same without; (g) the peak memory of a case beside its weights; (h) the emulator's build.
What is compared runs in alternation.  A ratio that became worse than benchmarks/committed.json
allows fails the run (gate.py).  docs/benchmarks.md says how, and what the figures mean.  On the
emulated NPU all of them are EMULATED.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import harness  # noqa: F401  (before torch)
from benchmarks import against_tools, footprint, gate, measured, own_cost
from benchmarks.measured import Target
from harness.devices.choice import choose
from harness.system import environment, quantities

PARTS = "abcdefgh"


def main() -> int:
    """Measure and print; 0 when every target is met and no ratio became worse, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=parts, default=PARTS, metavar="a,b,...")
    parser.add_argument("--rounds", type=quantities.positive, default=3)
    parser.add_argument("--device", default="npu-emulated")
    parser.add_argument("--model", default=own_cost.MODEL, help="architecture of parts a and b")
    parser.add_argument(
        "--tools",
        type=tools,
        default=against_tools.USUAL,
        metavar="A,B,...",
        help=f"of part e: {', '.join(against_tools.TOOLS)} (default: all but the last)",
    )
    parser.add_argument(
        "--update",
        action="store_true",
        help="commit the measured ratios instead: they are written to benchmarks/committed.json",
    )
    given = parser.parse_args()
    spec = choose(given.device).spec
    started = time.perf_counter()
    print(f"CPU: {measured.machine()}\nDevice: {spec}{spec.caveat}\n{environment.short()}")

    targets = []
    if set(given.only) & set("ab"):
        targets += own_cost.runs(given.device, given.rounds, given.only, say, given.model)
    if "c" in given.only:
        targets += own_cost.collection(given.rounds, say)
    if "d" in given.only:
        targets += own_cost.verdict(given.device, given.rounds, say)
    if "f" in given.only:
        targets += own_cost.operators(given.device, given.rounds, say)
    if "g" in given.only:
        targets += footprint.memory(given.device, given.rounds, say)
    if "h" in given.only:
        targets += footprint.build(given.rounds, say)
    mark = " [EMULATED]" if spec.emulated else ""
    if targets:
        rows = [target.row for target in targets]
        print(f"\n**Own cost{mark}**\n\n{measured.table(measured.TARGET_HEADER, rows)}\n")
    worse = conclude(targets, update=given.update)
    if "e" in given.only:
        print(against_tools.measure(given.device, given.tools, given.rounds, mark, say))
    print(f"{time.perf_counter() - started:.0f} s in all")
    return 0 if all(target.met for target in targets) and not worse else 1


def conclude(targets: Sequence[Target], *, update: bool) -> bool:
    """Print a line for each committed ratio, or commit them; whether one became worse."""
    if update:
        gate.write(targets)
        return False
    committed = gate.read()
    held = gate.hold(targets, committed)
    for line in [
        *held,
        *(
            f"{target.what}: no ratio is committed; --update does it."
            for target in targets
            if target.ratios and target.what not in committed
        ),
    ]:
        print(line)
    return any(ratio.worse for ratio in held)


def parts(text: str) -> str:
    """Letters of parts, as in "a,b"; raises argparse.ArgumentTypeError."""
    found = text.replace(",", "")
    if not found or set(found) - set(PARTS):
        raise argparse.ArgumentTypeError(f"{text!r} does not name parts of {', '.join(PARTS)}")
    return found


def tools(text: str) -> list[str]:
    """Names of tools; raises argparse.ArgumentTypeError."""
    found = text.split(",")
    if unknown := set(found) - set(against_tools.TOOLS):
        raise argparse.ArgumentTypeError(
            f"no tool {unknown.pop()!r} among {[*against_tools.TOOLS]}"
        )
    return found


def say(text: str) -> None:
    """A line about what goes on."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
