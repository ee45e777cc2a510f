"""What a long run costs: seconds and memory after 25, 50, 100 and 200 cases, beside a bare script.

    python -m benchmarks.sweep [--device npu-emulated] [--blocks 8]

One run of `--blocks` times the same 25 architectures, each time on other images and with an empty
reference cache, so that every block is the same work.  Before it and after each block, while its
processes are suspended, the bare script of `make bench` does the same builds and forward passes:
both meet the same slow and fast minutes of the machine.  Prints the seconds of each block, what a
case costs beyond the bare script, and the memory of the run's processes when a block ended.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

import harness  # noqa: F401  (before torch)
from benchmarks import measured
from harness.cases.case import ModelSource
from harness.cases.models import loading
from harness.devices.choice import choose
from harness.records import results_file
from harness.runs.follower import Follower
from harness.system import files, quantities

OVERHEAD = 0.10  # of builds and forward passes, wanted at most
GROWTH = 0.10  # of the memory, from the second block's end to the last one's
# Families of all ages, of 0.1 to 0.7 GMACs: for larger models the overhead matters less.
ARCHITECTURES = """
regnetx_002 regnety_002 mobilenetv1_100 mobilenetv2_050 mobilenetv2_100 mobilenetv3_small_100
mobilenetv3_large_100 mobilenetv4_conv_small lcnet_100 tinynet_c efficientnet_lite0 efficientnet_b0
ghostnet_100 mnasnet_100 semnasnet_075 mixnet_s rexnet_100 hardcorenas_a dla46_c convnext_atto
edgenext_xx_small levit_128s mobilevit_xxs efficientvit_b0 pit_ti_224
""".split()


def main() -> int:
    """Run and print; 0 when overhead and growth are within what is wanted, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="npu-emulated")
    parser.add_argument("--blocks", type=quantities.positive, default=8)
    given = parser.parse_args()
    spec = choose(given.device).spec
    print(f"CPU: {measured.machine()}\nDevice: {spec}{spec.caveat}", flush=True)

    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        # Makes the models, builds, pages in.
        run(given.device, scratch / "unmeasured", [1000], lambda: math.nan)
        blocks = run(given.device, scratch / "measured", range(given.blocks), bare)
    count = len(ARCHITECTURES)
    for number, block in enumerate(blocks, start=1):
        print(
            f"{number * count:4} cases: {sum(b.seconds for b in blocks[:number]):6.1f} s, "
            f"this block {block.seconds:5.1f} s, {block.seconds / count:.2f} s a case; bare script "
            f"{block.before:5.1f} s before, {block.after:5.1f} s after; memory "
            f"{block.memory / 1e6:.0f} MB"
        )
    later = blocks[1:] or blocks  # the first block also pays for the start of everything
    overheads = [block.overhead for block in later]
    overhead = statistics.median(overheads)
    growth = blocks[-1].memory / later[0].memory - 1
    print(f"overhead of the blocks: {', '.join(f'{value:.1%}' for value in overheads)}")
    for name, value, wanted in (
        ("overhead a case", overhead, OVERHEAD),
        ("growth of memory", growth, GROWTH),
    ):
        met = "yes" if value <= wanted else "NO"
        print(f"{name}: {value:.1%}, wanted at most {wanted:.0%}: {met}")
    return 0 if overhead <= OVERHEAD and growth <= GROWTH else 1


@dataclasses.dataclass(frozen=True)
class Block:
    """Seconds of 25 cases, of the bare script beside them, and bytes held when they ended."""

    seconds: float
    before: float
    after: float
    memory: int

    @property
    def overhead(self) -> float:
        """Share of the bare script's time that came on top of it."""
        return self.seconds / statistics.mean((self.before, self.after)) - 1


def run(
    device: str, results: Path, seeds: range | list[int], beside: Callable[[], float]
) -> list[Block]:
    """One run over all seeds, a block each; `beside`: what is timed before and after each."""
    results.mkdir()
    cases = "".join(
        f'[[case]]\narchitecture = "{name}"\nnumerics = ["default"]\ninput_seed = {seed}\n'
        for seed in seeds
        for name in ARCHITECTURES
    )
    (results / "cases.toml").write_text(cases)
    before = beside()
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "run", "--device", device, "--case-file",
         str(results / "cases.toml"), "--results", str(results), "-p", "no:cacheprovider",
         "--reference-cache", str(results / "cache"), "--localize", "never", "-q"],
        cwd=measured.ROOT,
        env=os.environ,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    follower, done = Follower(results / "results.jsonl"), 0
    blocks: list[Block] = []
    while process.poll() is None:
        time.sleep(0.1)
        if not (results / "results.jsonl").exists():
            continue
        done += sum(line["type"] == "case" for line in follower.new())
        if done >= len(ARCHITECTURES) * (len(blocks) + 1):
            seconds = time.perf_counter() - started
            with suspended(process.pid):
                memory = measured.tree_memory(process.pid)
                after = beside()
            blocks.append(Block(seconds, before, after, memory))
            before, started = after, time.perf_counter()
    found = results_file.read(results / "results.jsonl")
    if found.missing or len(blocks) < len(seeds):
        raise SystemExit(f"The run ended with {process.returncode}: {found.unfinished[:5]}")
    return blocks


@contextlib.contextmanager
def suspended(pid: int) -> Iterator[None]:
    """Stop a process and all that it started while something else is timed."""
    root = psutil.Process(pid)
    tree = [root, *root.children(recursive=True)]
    try:
        for process in tree:
            process.suspend()
        yield
    finally:
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


def bare() -> float:
    """Seconds that the bare script spends on the builds and forward passes of one block."""
    cache = files.default_cache_dir()
    folders = [
        str(loading.materialise(ModelSource("architecture", name), cache)) for name in ARCHITECTURES
    ]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.bare", *folders],
        cwd=measured.ROOT, env=os.environ, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return sum(
        float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("seconds ")
    )


if __name__ == "__main__":
    sys.exit(main())
