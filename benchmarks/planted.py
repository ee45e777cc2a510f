"""The comparisons that every tool is given, and both sides as a tool without the harness has them.

A job is one comparison of efficientnet_b0 on the CPU and on the emulated NPU: images, numerics and
a fault plan, none in honest runs.  All tools get the same model directory, image tensors and plans.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.cases.case import Case, InputSource, ModelSource
from harness.detection import catalogue
from harness.devices.fault_plan import Fault, FaultPlan

MODEL = "efficientnet_b0"
# Of the catalogue behind docs/detection.md, by name and depth.
CHOSEN = (
    ("weight x1.5", "middle"),
    ("one weight element doubled", "middle"),
    ("one channel zero", "middle"),
    ("1 % noise", "middle"),
    ("one NaN", "middle"),
    ("input channels BGR", "first"),
    ("sums in fp16", "every"),
    ("last item gets item 0's result", "late"),
    ("normalisation mean off by 0.1 std", "middle"),
    ("normalisation output zero (branch dropped)", "middle"),
    ("activation x1.01", "middle"),
)
FLAKY = "0.1 % noise that comes half of the time (flaky)"


@dataclasses.dataclass(frozen=True)
class Job:
    """One comparison; `plan` is JSON for the emulator, None in an honest run."""

    name: str
    numerics: str = "strict"
    seed: int = 0  # of the images
    plan: str | None = None


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a tool itself said: whether something is wrong, and in its words."""

    name: str
    numerics: str
    seed: int
    caught: bool
    said: str


def faults(operators: Mapping[str, int]) -> list[Job]:
    """The chosen faults for a model; `operators`: calls of the device's operators in a forward."""
    known = {(fault.name, fault.depth): fault for fault in catalogue.instantiate(operators)}
    jobs = [Job(f"{name}, {depth}", plan=known[name, depth].plan) for name, depth in CHOSEN]
    middle = known["1 % noise", "middle"]
    some = Fault(
        "noise_output",
        middle.operator,
        first=middle.call,
        every=middle.calls,
        magnitude=0.001,
        probability=0.5,
    )
    return [*jobs, Job(FLAKY, plan=FaultPlan((some,)).to_json())]


def case(model: Path, job: Job) -> Case:
    """A job as a case of the harness."""
    images = InputSource("synthetic", seed=job.seed)
    return Case(ModelSource("directory", str(model)), images, numerics=job.numerics)


def honest(seeds: Sequence[int]) -> list[Job]:
    """Runs without a fault: strict float32, and the NPU's default, HF32 convolutions."""
    return [Job("honest", numerics, seed) for numerics in ("strict", "default") for seed in seeds]


class Sides:
    """The model on the CPU and on the emulated NPU, as plain timm and torch_npu."""

    def __init__(self, model: Path, images: Path) -> None:
        """`images`: folder of NAME.safetensors, by seed."""
        import torch
        from safetensors.torch import load_file

        from harness.devices import emulator
        from harness.system import torchvision_shim

        torchvision_shim.ensure()  # timm does not import beside a CPU build of torch else
        import timm

        self._npu = emulator.load()
        self._npu.import_torch_npu()
        config = json.loads((model / "config.json").read_text())
        self.device = torch.device("npu", 0)

        def build() -> Any:
            made = timm.create_model(config["architecture"], num_classes=config["num_classes"])
            made.load_state_dict(load_file(model / "model.safetensors"), strict=True)
            return made.eval()

        self.cpu, self.npu = build(), build().to(self.device)
        self._images = {path.stem: load_file(path)["images"] for path in images.glob("*")}

    def images(self, job: Job) -> Any:
        """The images of a job, [6, 3, 224, 224] on the CPU."""
        return self._images[str(job.seed)]

    def prepare(self, job: Job) -> None:
        """Set the device's numerics and put the fault into force."""
        import torch

        from harness.devices.fault_plan import FaultPlan

        torch.npu.conv.allow_hf32 = job.numerics == "default"
        torch.npu.matmul.allow_hf32 = False
        self._npu.set_faults(FaultPlan.from_json(job.plan) if job.plan else None)


def answer(work: Callable[[Path, Path, Path, Sequence[Job]], list[Answer]]) -> None:
    """Run a tool on the jobs in a file and leave its answers beside them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("jobs", type=Path)
    parser.add_argument("folder", type=Path, help="for what the tool writes")
    given = parser.parse_args()
    jobs = [Job(**fields) for fields in json.loads(given.jobs.read_text())]
    found = work(given.model, given.images, given.folder, jobs)
    text = json.dumps([dataclasses.asdict(one) for one in found])
    given.jobs.with_suffix(".answers").write_text(text, encoding="utf-8")
