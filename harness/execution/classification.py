"""Classifies images on one side: a model that stays on its device from one part to the next.

Images are decoded and preprocessed once, as every image of the harness is, and kept in a file that
both sides read, so that both see the same bits.  Torch, and what brings it in, is imported inside
functions: the run's own process only asks.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.cases import inputs, labelled_images
from harness.cases.labelled_images import LabelledImages
from harness.cases.models.class_names import class_name
from harness.cases.models.model_files import ModelFiles
from harness.cases.samples import Samples
from harness.devices import emulated_kernels
from harness.devices.spec import DeviceSpec
from harness.execution import legs
from harness.execution.worker import OpenDevice, Worker
from harness.judgement.metrics import Array
from harness.records.leg import DeviceInfo
from harness.records.task_accuracy import TOP
from harness.system import files, foreign, process
from harness.system.messages import say
from harness.system.status import CaseProblem, Stage, StageCallback, Status, UsageProblem

if TYPE_CHECKING:
    import torch

    from harness.cases.models.loading import LoadedModel
    from harness.devices.device import Device


@dataclasses.dataclass(frozen=True)
class Setup:
    """How a side computes; `dtype` and `numerics` as in `LegRequest`, `fault_plan`: JSON.

    Planned faults count the calls of each part anew.
    """

    model: ModelFiles
    dtype: str
    numerics: str
    batch_size: int
    fault_plan: str | None = None


@dataclasses.dataclass(frozen=True)
class Opened:
    """What a side says of itself before the first image.

    `settings`: as read back from the device; `fallback`: operators that ran on the CPU although the
    model is on the device; `class_names`: of every class; `architecture`: with timm's tag.
    """

    device: DeviceInfo
    settings: dict[str, str]
    fallback: tuple[str, ...]
    weights_sha256: str
    weights: str
    architecture: str
    data_config: dict[str, Any]
    class_names: tuple[str, ...]
    label_names: Any


@dataclasses.dataclass(frozen=True)
class Stored:
    """Preprocessed images [N, C, H, W] in a file.

    `read`: which of the images asked for they are; `problems`: of the others, by place: a sentence.
    """

    path: Path
    sha256: str
    read: tuple[int, ...]
    problems: dict[int, str]


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a side answers to N images.

    `top`: [N, K] the K most probable classes, K at most 5, of equal ones the first; `probability`:
    [N] softmax of the most probable one; `finite`: [N] whether all logits are; `host_peak`: bytes,
    the greatest resident set of the side's process so far; `fault_effects`: as in `Counters`.
    """

    top: Array
    probability: Array
    finite: Array
    host_peak: int | None
    fault_effects: tuple[int, ...] = ()


class Classifier:
    """A device of this process, and the model that was placed on it last."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._placed: tuple[Setup, LoadedModel, legs.Passes] | None = None

    def open(self, setup: Setup, on_stage: StageCallback) -> Opened:
        """Load a model and run it once, on zeros.  Raises CaseProblem."""
        import torch

        from harness.execution.operators.counter import OperatorCounter

        loaded, passes, settings = self._place(setup, on_stage)
        classes = loaded.num_classes
        if classes < 2:
            lack = "no classifier" if classes == 0 else "a single output"
            raise UsageProblem(
                f"{setup.model.name} has {lack} (num_classes is {classes}): there is no class to "
                "be right about."
            )
        inputs.check_channels(loaded.data_config)
        zeros = torch.zeros(setup.batch_size, *loaded.data_config["input_size"])
        executed = OperatorCounter()
        with executed:
            self._logits(passes, zeros, classes, on_stage)
        tag = (loaded.config.get("pretrained_cfg") or {}).get("tag") or loaded.config.get("tag")
        return Opened(
            device=self.device.describe(),
            settings=settings,
            fallback=tuple(self.device.fallback_operators(list(executed.counts))),
            weights_sha256=loaded.weights_sha256,
            weights=f"{loaded.weights_description}: {loaded.description}",
            architecture=".".join(filter(None, [loaded.config["architecture"], tag])),
            data_config=loaded.data_config,
            class_names=tuple(class_name(i, classes, loaded.label_names) for i in range(classes)),
            label_names=loaded.label_names,
        )

    def classify(self, setup: Setup, images: torch.Tensor, on_stage: StageCallback) -> Answers:
        """Classify preprocessed images [N, C, H, W], float32.  Raises CaseProblem."""
        loaded, passes, _ = self._place(setup, on_stage)
        self.device.plant(setup.fault_plan)
        logits = self._logits(passes, images, loaded.num_classes, on_stage)
        effects = self.device.counters().fault_effects
        self.device.plant(None)
        finite = np.asarray(np.isfinite(logits).all(axis=1))
        # NaN and infinities are no classes: those images are told by `finite`.
        known = np.where(np.isfinite(logits), logits, -np.inf)
        known[~finite] = 0.0
        order = np.argsort(-known, axis=1, kind="stable")[:, :TOP]
        powers = np.exp(known - known.max(axis=1, keepdims=True))
        probability = 1.0 / powers.sum(axis=1)
        return Answers(order, probability, finite, process.host_peak(), effects)

    def _place(
        self, setup: Setup, on_stage: StageCallback
    ) -> tuple[LoadedModel, legs.Passes, dict[str, str]]:
        if self._placed is not None and self._placed[0] == setup:
            return (*self._placed[1:], {})
        self._placed = None  # its memory may be needed
        on_stage(Stage.LOAD)
        settings = self.device.apply_numerics(setup.numerics)
        # Features are an output of a case's comparison; here they would only take memory.
        loaded = dataclasses.replace(setup.model.load(), taps_features=False)
        try:
            passes = legs.Passes(self.device, loaded, setup.dtype, setup.batch_size)
        except Exception as error:
            raise legs.problem(self.device, error, Stage.LOAD) from error
        self._placed = setup, loaded, passes
        return loaded, passes, settings

    def _logits(
        self, passes: legs.Passes, images: torch.Tensor, classes: int, on_stage: StageCallback
    ) -> Array:
        """Logits [N, classes], float64; one batch at a time is on the device."""
        from harness.execution import outputs

        found = []
        stage = Stage.TRANSFER
        try:
            for batch in Samples.of(images).batches(passes.batch_size):
                on_stage(stage := Stage.TRANSFER)
                placed = passes.load(batch)
                on_stage(stage := Stage.FORWARD)
                raw, _ = passes.forward(placed)
                on_stage(stage := Stage.SYNCHRONIZE)
                collected = outputs.collect(raw)
                name = outputs.logits_name(collected, classes)
                if name is None:
                    raise CaseProblem(
                        Status.FAIL_SHAPE,
                        Stage.FORWARD,
                        say(
                            "task.no_logits",
                            "No output of the model has a row of {classes} classes for each image.",
                            classes=classes,
                        ),
                    )
                found.append(collected[name].astype(np.float64))
        except CaseProblem:
            raise
        except Exception as error:
            raise legs.problem(self.device, error, stage) from error
        return np.concatenate(found)


@dataclasses.dataclass(frozen=True)
class _OpenClassifier:
    """Opens a device for a model that stays on it."""

    device: OpenDevice

    def __str__(self) -> str:
        return str(self.device)

    def open(self) -> Classifier:
        return Classifier(self.device.open())


class ClassifierProcess(Worker[Classifier]):
    """A side's process."""

    def __init__(self, device: DeviceSpec, kernels: str = emulated_kernels.DEFAULT) -> None:
        """`kernels`: other kernels for the emulated NPU (`devices/emulated_kernels`)."""
        super().__init__(_OpenClassifier(OpenDevice(device, kernels)))


@dataclasses.dataclass(frozen=True)
class Open:
    """A request: load the model, and say what there is."""

    setup: Setup

    def answer(self, side: Classifier, on_stage: StageCallback) -> Opened:
        """As `Classifier.open`."""
        return side.open(self.setup, on_stage)


@dataclasses.dataclass(frozen=True)
class ListImages:
    """A request: list labelled images for a model."""

    path: Path
    num_classes: int
    label_names: Any

    def answer(self, side: Classifier, on_stage: StageCallback) -> LabelledImages:
        """As `labelled_images.find`."""
        return labelled_images.find(self.path, self.num_classes, self.label_names)


@dataclasses.dataclass(frozen=True)
class Prepare:
    """A request: decode and preprocess image files, and keep them at `target`."""

    paths: tuple[Path, ...]
    data_config: dict[str, Any]
    target: Path

    def answer(self, side: Classifier, on_stage: StageCallback) -> Stored:
        """The images that could be read, and a sentence for each other."""
        import torch

        prepared = inputs.preprocessing(self.data_config)
        images, read, problems = [], [], {}
        for place, path in enumerate(self.paths):
            try:
                images.append(prepared(path))
            except UsageProblem as problem:
                problems[place] = str(problem)
            else:
                read.append(place)
        joined = torch.stack(images) if images else torch.empty(0)
        images.clear()
        files.save_tensors({"images": joined}, self.target, {"of": "task accuracy"})
        return Stored(self.target, files.sha256_tensors({"images": joined}), tuple(read), problems)


@dataclasses.dataclass(frozen=True)
class Classify:
    """A request: classify stored images."""

    setup: Setup
    images: Stored

    def answer(self, side: Classifier, on_stage: StageCallback) -> Answers:
        """As `Classifier.classify`.  Raises CaseProblem for a file that is not what was stored."""
        with foreign.open_regular(self.images.path) as file:
            tensors, _ = files.tensors_of(file.read())
        if files.sha256_tensors(tensors) != self.images.sha256:
            raise CaseProblem(
                Status.ERROR_HARNESS,
                Stage.LOAD,
                say(
                    "stored.changed",
                    "{path} is not what was stored there: another program changed it.",
                    path=self.images.path,
                ),
            )
        return side.classify(self.setup, tensors["images"], on_stage)
