"""What a long run costs: seconds and memory after 25, 50, 100 and 200 cases, beside a bare script.

    python -m benchmarks.sweep [--device npu-emulated] [--blocks 8]

One run of `--blocks` times the same 25 architectures, each time on other images and with an empty
reference cache, so that every block is the same work; the bare script of `make bench` does the same
builds and forward passes of one block before and after it.  Prints the seconds of each block, what
a case costs beyond the bare script, and the memory of the run's processes when a block ended.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness  # noqa: F401  (before torch)
from benchmarks import measured
from harness import devices, models, options, records, store
from harness.cases import ModelSource
from harness.live import Follower

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
    parser.add_argument("--blocks", type=options.positive, default=8)
    given = parser.parse_args()
    spec = devices.choose(given.device).spec
    print(f"CPU: {measured.machine()}\nDevice: {spec}{spec.caveat}", flush=True)

    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        run(given.device, scratch / "unmeasured", [1000])  # makes the models, builds, pages in
        before = bare()
        ends, memory = run(given.device, scratch / "measured", range(given.blocks))
        after = bare()
    count = len(ARCHITECTURES)
    blocks = [end - start for start, end in zip([0.0, *ends], ends, strict=False)]
    for number, (seconds, held) in enumerate(zip(blocks, memory, strict=True), start=1):
        print(
            f"{number * count:4} cases: {ends[number - 1]:6.1f} s, this block {seconds:5.1f} s, "
            f"{seconds / count:.2f} s a case; memory {held / 1e6:.0f} MB"
        )
    # The first block also pays for the start of everything.
    block = statistics.median(blocks[1:] or blocks)
    overhead = block / statistics.mean((before, after)) - 1
    growth = memory[-1] / memory[min(1, len(memory) - 1)] - 1
    print(f"bare script: {before:.1f} s before, {after:.1f} s after, for the work of one block")
    for name, value, wanted in (
        ("overhead a case", overhead, OVERHEAD),
        ("growth of memory", growth, GROWTH),
    ):
        met = "yes" if value <= wanted else "NO"
        print(f"{name}: {value:.1%}, wanted at most {wanted:.0%}: {met}")
    return 0 if overhead <= OVERHEAD and growth <= GROWTH else 1


def run(device: str, results: Path, seeds: range | list[int]) -> tuple[list[float], list[int]]:
    """One run over all seeds; seconds since its start and bytes held at the end of each block."""
    results.mkdir()
    cases = "".join(
        f'[[case]]\narchitecture = "{name}"\nnumerics = ["default"]\ninput_seed = {seed}\n'
        for seed in seeds
        for name in ARCHITECTURES
    )
    (results / "cases.toml").write_text(cases)
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
    ends: list[float] = []
    memory: list[int] = []
    while process.poll() is None:
        time.sleep(0.1)
        if not (results / "results.jsonl").exists():
            continue
        done += sum(line["type"] == "case" for line in follower.new())
        if done >= len(ARCHITECTURES) * (len(ends) + 1):
            ends.append(time.perf_counter() - started)
            memory.append(measured.tree_memory(process.pid))
    found = records.read(results / "results.jsonl")
    if found.missing or len(ends) < len(seeds):
        raise SystemExit(f"The run ended with {process.returncode}: {found.unfinished[:5]}")
    return ends, memory


def bare() -> float:
    """Seconds that the bare script spends on the builds and forward passes of one block."""
    cache = store.default_cache_dir()
    folders = [
        str(models.materialise(ModelSource("architecture", name), cache)) for name in ARCHITECTURES
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
