"""What an engineer without the harness would write: the yardstick of its own cost.

    python -m benchmarks.bare MODEL_DIR ... [--minimal]

Without an option it imports what the harness imports for the same work (torch, timm, torch_npu on
the emulator), builds the model once for each of the harness' four legs and runs as many forward
passes as the harness does for a case of six images with HF32 declared: three in float32 on the
CPU, one in float64 (two for a model with GELU, of which CANN has the tanh form alone), one with
factors rounded as HF32 rounds them, and on the device three, one in reverse order, six of one image
and one of a full batch.  All of it one after the other in one process.  `--minimal` is the
published protocol alone: two builds, a warm-up and one pass on the device, one pass on the CPU.
No hashes, no record, no verdict but the documented gate.  The seconds of each model stand last.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import harness  # noqa: F401  (before torch: it must not load torch_npu by itself)
from harness.system import torchvision_shim

if TYPE_CHECKING:
    import torch

IMAGES, BATCH, REPEAT = 6, 8, 2


def main() -> None:
    """Compare CPU and device and print the documented figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="+", help="timm model directory")
    parser.add_argument("--minimal", action="store_true")
    given = parser.parse_args()

    import torch

    from harness.devices import emulator

    torchvision_shim.ensure()  # timm does not import beside a CPU build of torch else
    import timm  # noqa: F401  (before the first model is timed)

    emulator.load().import_torch_npu()
    for model in given.model:
        started = time.perf_counter()
        compare(model, torch.device("npu", 0), minimal=given.minimal)
        print(f"seconds {time.perf_counter() - started:.3f} {model.name}")


def compare(model_dir: Path, device: torch.device, *, minimal: bool) -> None:
    """Run one model on both sides and print the documented figures."""
    import timm
    import torch
    from safetensors.torch import load_file

    config = json.loads((model_dir / "config.json").read_text())

    def build() -> torch.nn.Module:
        model = timm.create_model(config["architecture"], num_classes=config["num_classes"])
        model.load_state_dict(load_file(model_dir / "model.safetensors"), strict=True)
        return model.eval()

    def forward(model: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return model(batch).cpu()

    size = config.get("pretrained_cfg", {}).get("input_size", (3, 224, 224))
    images = torch.randn(IMAGES, *size, generator=torch.Generator().manual_seed(0))
    on_cpu = build()
    on_device, sent = build().to(device), images.to(device)
    warm_up = forward(on_device, sent)
    if minimal:
        reference, candidate = forward(on_cpu, images), forward(on_device, sent)
    else:
        reference = [forward(on_cpu, images) for _ in range(1 + REPEAT)][-1]
        wide = build().double()
        oracle = forward(wide, images.double())
        gelus = [one for one in wide.modules() if isinstance(one, torch.nn.GELU)]
        if gelus:
            as_asked = oracle
            for one in gelus:
                one.approximate = "tanh"
            oracle = forward(wide, images.double())
            print("gelu", f"{(as_asked - oracle).square().mean().sqrt():.3g}")
        del wide
        with rounded():
            budget = forward(build(), images)
        candidate = [forward(on_device, sent) for _ in range(REPEAT)][-1]
        backwards = forward(on_device, sent.flip(0)).flip(0)
        alone = torch.cat([forward(on_device, sent[i : i + 1]) for i in range(IMAGES)])
        full = forward(on_device, sent[torch.arange(BATCH) % IMAGES])[:IMAGES]
        for name, values in (
            *(("budget", budget), ("backwards", backwards)),
            *(("alone", alone), ("full", full)),
        ):
            print(name, f"{(values - oracle).square().mean().sqrt():.3g}")
        print("same", bool(torch.equal(warm_up, candidate)))
    one, other = reference.softmax(-1), candidate.softmax(-1)
    cosine = torch.cosine_similarity(one, other).mean()
    print(f"error rate {100 * (1 - cosine):.4f} %, MAE {(one - other).abs().mean():.2g}")
    print("Top-1", int((one.argmax(-1) == other.argmax(-1)).sum()), "of", len(one))


def rounded() -> contextlib.AbstractContextManager[object]:
    """Factors rounded as HF32 rounds them; the harness' own, since there is no other."""
    from harness.execution import imitation
    from harness.judgement import arithmetic

    settings = {"conv.allow_hf32": "True", "matmul.allow_hf32": "False"}
    return imitation.Imitation(arithmetic.declared("float32", settings))


if __name__ == "__main__":
    main()
