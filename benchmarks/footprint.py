"""Memory of a case, and the emulator's build: parts g and h of `python -m benchmarks.bench`."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import measured, own_cost
from benchmarks.measured import Target

MODELS = (own_cost.MODEL, "vit_base_patch16_224")  # a small and a medium one
_BUILD = "import sys; from pathlib import Path; from harness.devices.emulator import build; "
_BUILD += "build.ensure_built(Path(sys.argv[1]))"


def memory(device: str, rounds: int, say: Callable[[str], None]) -> list[Target]:
    """Part g: the peak of all processes of a strict cold case, divided by its float32 weights."""
    from harness.cases.case import ModelSource
    from harness.cases.models import loading
    from harness.system import files

    targets = []
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        for model in MODELS:
            folder = loading.materialise(
                ModelSource("architecture", model), files.default_cache_dir()
            )
            weights = (folder / "model.safetensors").stat().st_size
            peaks = []
            for number in range(rounds):
                cost = own_cost.one_case(
                    *(scratch, device, f"{model}{number}"),
                    keys='numerics = ["strict"]\n',
                    architecture=model,
                )
                peaks.append(cost.memory / weights)
                say(f"{model}: peak {cost.memory / 1e6:.0f} MB")
            peak = statistics.median(peaks)
            targets.append(
                Target(
                    f"(g) peak memory of a strict case / its float32 weights, {model}",
                    peak,
                    None,
                    detail=f"sum of proportional set sizes, median of {rounds}; "
                    f"{peak * weights / 1e6:.0f} MB of {weights / 1e6:.0f} MB",
                    ratios=tuple(peaks),
                )
            )
    return targets


def build(rounds: int, say: Callable[[str], None]) -> list[Target]:
    """Part h: processor seconds of the emulator's build beside one compilation of ATen's headers.

    The latter depends on the machine and the compiler as the build does, and not on the sources.
    """
    from harness.devices.emulator.build import find_toolchain

    toolchain = find_toolchain()
    builds, headers = [], []
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        source = scratch / "headers.cpp"
        source.write_text("#include <ATen/ATen.h>\n", encoding="utf-8")
        command = [*toolchain.compiler, toolchain.standard, "-O1", "-fPIC", "-w", "-c", str(source)]
        command += ["-isystem", str(toolchain.torch_dir / "include"), "-o", "/dev/null"]
        for number in range(rounds):
            builds.append(
                measured.run(measured.python("-c", _BUILD, str(scratch / str(number))), scratch)
            )
            headers.append(measured.run(command, scratch))
            built, parsed = builds[-1].processor, headers[-1].processor
            say(f"emulator: build {built:.1f} s, ATen's headers {parsed:.1f} s of the processor")
    ratios = [a.processor / b.processor for a, b in zip(builds, headers, strict=True)]
    return [
        Target(
            "(h) emulator's build / one compilation of ATen's headers",
            statistics.median(ratios),
            None,
            detail=f"processor, median of {rounds}; build "
            f"{statistics.median(cost.processor for cost in builds):.0f} s, wall "
            f"{statistics.median(cost.wall for cost in builds):.0f} s",
            ratios=tuple(ratios),
        )
    ]
