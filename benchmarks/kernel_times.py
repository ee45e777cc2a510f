"""What the emulator's profile `cann` takes beside `aten`: CPU time of forwards, side by side.

    python -m benchmarks.kernel_times [--models test_vit,...] [--formats float32,float16]

One process with one thread; forwards of both alternate, and the least of each counts.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TASK_QUEUE_ENABLE", "0")

import harness  # noqa: F401  (before torch)
from benchmarks import measured
from harness.devices import emulated_kernels, emulator
from harness.upgrade.precheck import survey

MODELS = ("efficientnet_b0", "mobilenetv3_small_100", "resnet18", "vit_tiny_patch16_224",
          "convnext_atto", "test_efficientnet_gn")  # fmt: skip
ROUNDS = 5


def ratio(npu: emulator.Emulator, model: Any, images: Any) -> float:
    """Least CPU time of a forward of a module with `cann` over that with `aten`."""
    import torch

    device: Any = torch.npu  # type: ignore[attr-defined]
    least: dict[str, float] = {}
    with torch.no_grad():
        for _ in range(ROUNDS):
            for name in (emulated_kernels.ATEN, emulated_kernels.CANN):
                npu.set_kernels(name)
                started = time.process_time()
                model(images)
                device.synchronize()
                spent = time.process_time() - started
                least[name] = min(spent, least.get(name, spent))
    return least[emulated_kernels.CANN] / least[emulated_kernels.ATEN]


def main() -> int:
    """Measure and print; 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--formats", default="float32,float16")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    import torch

    npu = emulator.load(emulator.EmulatorOptions())
    npu.import_torch_npu()
    torch.set_num_threads(1)
    rows = []
    for name in given.models.split(","):
        model, images = survey.build(name)
        cells = [name]
        for format_name in given.formats.split(","):
            dtype = getattr(torch, format_name)
            moved = survey.move(model.float(), "npu", dtype)
            cells.append(f"{ratio(npu, moved, images.to('npu', dtype)):.2f}")
        rows.append(tuple(cells))
        print(*cells, file=sys.stderr, flush=True)
    header = ("model", *(f"{name}, cann / aten" for name in given.formats.split(",")))
    print(f"**CPU time of a forward [EMULATED]**\n\n{measured.table(header, rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
