"""What a localisation costs: its time in plain forward pairs, its memory in activation pairs.

    python benchmarks/localize.py [--device npu-emulated] [--models resnet50,...] [--batch 8]

A forward pair is the model once on the CPU and once on the device; an activation pair is the
model's largest activation on both sides.  Pairs and localisations alternate in one process a model.
Memory is the process' peak beyond that of the pairs; it is read from /proc, so on Linux only, and
of an emulated device it contains the device's own memory.  malloc gives large blocks back at once
there, so that its habits are not measured.  The operator level is measured, the only
one there is: it answers for modules as well.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from typing import Any

from harness.cases.models.model_files import ModelFiles
from harness.system import process, quantities

FORMATS = (("float32", "strict"), ("float32", "default"), ("float16", "strict"))
WANTED_TIME, WANTED_MEMORY = 4.0, 4.0


def main() -> int:
    """Measure and print; 0 when every ratio is as wanted, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="npu-emulated")
    parser.add_argument("--models", default="efficientnet_b0,resnet50,vit_tiny_patch16_224")
    parser.add_argument("--batch", type=quantities.positive, default=8)
    parser.add_argument("--rounds", type=quantities.positive, default=3)
    given = parser.parse_args()
    print(
        "| model | format | pair, s | localisation, s | pairs | largest activation pair, MB | "
        "extra memory, MB | activation pairs |\n|---|---|---|---|---|---|---|---|"
    )
    met = True
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(1 << 20)  # read by the processes started below
    context = multiprocessing.get_context("spawn")
    for name in given.models.split(","):
        for dtype, profile in FORMATS:
            with context.Pool(1) as pool:  # a process each: peaks never sink
                row = pool.apply(
                    measure, (given.device, name, dtype, profile, given.batch, given.rounds)
                )
            time_ratio, memory_ratio = row["seconds"] / row["pair"], row["extra"] / row["largest"]
            met = met and time_ratio <= WANTED_TIME and memory_ratio <= WANTED_MEMORY
            print(
                f"| {name} | {dtype} {profile} | {row['pair']:.2f} | {row['seconds']:.2f} | "
                f"{time_ratio:.1f} | {row['largest'] / 1e6:.0f} | {row['extra'] / 1e6:.0f} | "
                f"{memory_ratio:.1f} |",
                flush=True,
            )
    print(f"wanted: at most {WANTED_TIME:g} pairs of both: {'yes' if met else 'NO'}")
    return 0 if met else 1


def measure(
    device_name: str, name: str, dtype: str, profile: str, batch: int, rounds: int
) -> dict[str, Any]:
    """Seconds and bytes of pairs and of localisations, medians over the rounds."""
    import torch

    from harness.cases.case import ModelSource
    from harness.devices.choice import choose
    from harness.devices.opening import open_device
    from harness.execution.operators import trace
    from harness.judgement import arithmetic
    from harness.system import files

    device = open_device(choose(device_name).spec)
    declared = arithmetic.declared(dtype, device.apply_numerics(profile))
    source = ModelSource("architecture", name)
    cpu, on_device = (
        ModelFiles.of(source, files.default_cache_dir()).load().model.eval() for _ in range(2)
    )
    images = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    kept = getattr(torch, dtype)
    on_device = on_device.to(kept).to(device.torch_device)
    sent = images.to(kept).to(device.torch_device)
    largest = 0

    def note(module: torch.nn.Module, args: Any, output: Any) -> None:
        nonlocal largest
        if isinstance(output, torch.Tensor):
            largest = max(largest, output.numel() * output.element_size())

    def pair() -> None:
        with torch.no_grad():
            cpu(images)
            on_device(sent)  # noqa: F821
        device.synchronize()

    handles = [module.register_forward_hook(note) for module in cpu.modules()]
    pair()
    for handle in handles:
        handle.remove()
    on_both = largest + largest * torch.empty(0, dtype=kept).element_size() // 4
    pairs, traces = [], []
    trace.trace(cpu, images, device, declared)  # warm-up
    for _ in range(rounds):
        pairs.append(seconds(pair))
        traces.append(seconds(lambda: trace.trace(cpu, images, device, declared)))
    before = peak(pair)
    del on_device  # a localisation brings its own weights
    after = peak(lambda: trace.trace(cpu, images, device, declared))
    return {
        "pair": statistics.median(pairs),
        "seconds": statistics.median(traces),
        "largest": on_both,
        "extra": max(0, after - before),
    }


def seconds(work: Any) -> float:
    """Wall seconds of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def peak(work: Any) -> int:
    """Peak resident bytes of this process during a call."""
    assert process.reset_peak()
    work()
    found = process.host_peak()
    assert found is not None
    return found


if __name__ == "__main__":
    raise SystemExit(main())
