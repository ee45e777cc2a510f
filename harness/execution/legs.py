"""Runs one leg: one model over one input set on one device, in this process."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from harness.cases import inputs
from harness.cases.models import loading
from harness.execution import gelu, imitation
from harness.execution.fault_hooks import PlannedFaults
from harness.execution.memory_meter import MemoryMeter
from harness.execution.operators import comparison
from harness.execution.operators.counter import OperatorCounter
from harness.execution.outputs import collect, logits_name, unstable
from harness.judgement import arithmetic, operator_rows
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.metrics import Array
from harness.judgement.operator_rows import OperatorCheck
from harness.records.leg import LegRecord, Timing
from harness.system.status import CaseProblem, Stage, StageCallback, Status

if TYPE_CHECKING:
    from harness.devices.device import Counters, Device

# Two, so that an operator that mixes up its batch shows.
_OPERATOR_IMAGES = 2


@dataclasses.dataclass(frozen=True)
class LegRequest:
    """All that a leg needs; small enough to send to another process.

    `dtype`: torch dtype name; "float64" is the oracle.  `imitate`: on the CPU, round float32
    operators as this arithmetic does.  `reorder`: on the CPU, sum in another order (channels
    last, one thread).  `repeat`: timed forwards after the warm-up, whose outputs are compared
    bit by bit.  `batch_checks`: also run the images in reverse order and one by one.
    `operator_share`: part of the operators to compare one by one as well, 0 for none.
    `fault_plan`: JSON for the emulator; with `hook_faults` it is applied by hooks on the CPU.
    """

    model_dir: Path
    num_classes: int | None
    allow_keys: tuple[str, ...]
    allow_pickle: bool
    inputs: inputs.InputSet
    dtype: str
    batch_size: int
    numerics: str
    repeat: int = 2
    imitate: Arithmetic | None = None
    reorder: bool = False
    batch_checks: bool = False
    fault_plan: str | None = None
    operator_share: float = 0.0
    hook_faults: bool = False

    def load(self) -> loading.LoadedModel:
        """The model, float32 on the CPU.  Raises as `models.load_model` does."""
        return loading.load_model(
            self.model_dir,
            num_classes=self.num_classes,
            allow_keys=self.allow_keys,
            allow_pickle=self.allow_pickle,
        )

    def on_cpu(self, **changes: Any) -> LegRequest:
        """The same model and images for one plain CPU forward, with `changes`."""
        plain: dict[str, Any] = {
            "numerics": "strict",
            "repeat": 0,
            "batch_checks": False,
            "fault_plan": None,
            "operator_share": 0.0,
            "hook_faults": False,
        }
        return dataclasses.replace(self, **(plain | changes))


@dataclasses.dataclass(frozen=True)
class LegResult:
    """What a leg gave.

    `outputs`: name -> float32 or float64 array [N, ...]; `logits`: name of the classifier
    output, None for a model without one; `unstable`: outputs that differed between two forwards;
    `variants`: the outputs again, by the way the images were batched ("permuted", "alone").
    `counters`: what the device counted during the passes.  `operators`: operators one by one,
    where that was asked for.
    """

    outputs: dict[str, Array]
    logits: str | None
    unstable: tuple[str, ...]
    record: LegRecord
    weights: str
    counters: Counters
    variants: dict[str, dict[str, Array]] = dataclasses.field(default_factory=dict)
    operators: OperatorCheck | None = None


def run(
    device: Device,
    request: LegRequest,
    on_stage: StageCallback,
    load: Callable[[LegRequest], loading.LoadedModel] = LegRequest.load,
) -> LegResult:
    """Run one leg; `load` gives it a model that it may change.

    Raises CaseProblem with the status and stage of what went wrong; every other exception is
    the harness' own fault.
    """
    stage = Stage.LOAD

    def enter(new: Stage) -> None:
        nonlocal stage
        stage = new
        on_stage(new)

    threads = torch.get_num_threads()
    executed = OperatorCounter()
    try:
        enter(Stage.LOAD)
        meter = MemoryMeter(device)
        device.plant(None if request.hook_faults else request.fault_plan)
        numerics = device.apply_numerics(request.numerics)
        loaded = load(request)
        images = inputs.load_inputs(request.inputs)

        enter(Stage.TRANSFER)
        passes = _Passes(device, request, loaded.model)
        batches = passes.load(images)
        device.synchronize()

        enter(Stage.FORWARD)
        if request.reorder:
            torch.set_num_threads(1)
        # The first pass is the warm-up; it also counts the operators, so its time stands apart.
        with executed:
            first, first_seconds = passes.forward(batches)
        enter(Stage.SYNCHRONIZE)
        results, seconds = [collect(first)], []
        for _ in range(request.repeat):
            enter(Stage.FORWARD)
            raw, taken = passes.forward(batches)
            seconds.append(taken)
            enter(Stage.SYNCHRONIZE)
            results.append(collect(raw))
        enter(Stage.FORWARD)
        variants = _batch_variants(passes, images) if request.batch_checks else {}
        counters = device.counters()
        numerics = {**numerics, **_deviations(device, executed)}
        record = LegRecord(
            device=device.describe(),
            numerics=numerics,
            timing=Timing(
                batch_size=request.batch_size,
                images=len(images),
                forward_seconds=seconds,
                first_forward_seconds=first_seconds,
                threads=torch.get_num_threads() if device.spec.kind == "cpu" else None,
            ),
            operators=executed.counts,
            fallback_operators=device.fallback_operators(list(executed.counts)),
            weights_sha256=loaded.weights_sha256,
            memory=meter.read(),
        )
        check = _compare_operators(device, request, images, numerics)
    except CaseProblem:
        raise
    except Exception as error:
        raise problem(device, error, stage, executed.failed) from error
    finally:
        torch.set_num_threads(threads)
    return LegResult(
        outputs=results[-1],
        logits=logits_name(results[-1], loaded.num_classes),
        unstable=unstable(results),
        record=record,
        weights=f"{loaded.weights_description}: {loaded.description}",
        counters=passes.hooks.counters if passes.hooks else counters,
        variants=variants,
        operators=check,
    )


def _deviations(device: Device, executed: OperatorCounter) -> dict[str, str]:
    """What a device computes otherwise than a model asks, and not by rounding."""
    if not executed.gelu or device.spec.kind == "cpu":
        return {}
    device.plant(None)  # the question is about the device, not about planned faults
    form = gelu.instead(device.torch_device, executed.gelu)
    return {} if form is None else {"gelu": form}


def _compare_operators(
    device: Device, request: LegRequest, images: torch.Tensor, numerics: dict[str, str]
) -> OperatorCheck | None:
    """Compare a share of the operators one by one, on few images: each runs several times."""
    if not request.operator_share or request.hook_faults:
        return None
    device.plant(request.fault_plan)  # counts calls from the first operator again
    rows = comparison.compare_operators(
        request.load().model,
        images[:_OPERATOR_IMAGES],
        device,
        arithmetic.declared(request.dtype, numerics),
        share=request.operator_share,
    )
    return operator_rows.summarise(rows, request.operator_share)


class _Passes:
    """A model on its device, and forward passes through it as a request asks."""

    def __init__(self, device: Device, request: LegRequest, model: torch.nn.Module) -> None:
        self.device = device
        self.request = request
        self.hooks = PlannedFaults(request.fault_plan) if request.hook_faults else None
        if request.imitate is not None:
            imitation.round_weights(model, request.imitate)
        self.model = model.to(getattr(torch, request.dtype)).to(device.torch_device).eval()
        if request.reorder:
            self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._features: Any = None
        inner = getattr(self.model, "forward_features", None)
        if callable(inner):
            # Pooling hides spatial errors, so the features before it are an output as well.
            def tapped(*args: Any, **kwargs: Any) -> Any:
                self._features = inner(*args, **kwargs)
                return self._features

            self.model.forward_features = tapped  # type: ignore[assignment]

    def load(self, images: torch.Tensor, batch_size: int | None = None) -> list[torch.Tensor]:
        """Move images [N, 3, H, W] to the device in batches, in the leg's dtype."""
        layout = torch.channels_last if self.request.reorder else torch.contiguous_format
        imitate = self.request.imitate
        if imitate is not None:
            images = images.to(getattr(torch, imitate.dtype))  # the format stores the input too
        return [
            batch.to(getattr(torch, self.request.dtype))
            .to(self.device.torch_device)
            .contiguous(memory_format=layout)
            for batch in images.split(batch_size or self.request.batch_size)
        ]

    def forward(self, batches: list[torch.Tensor]) -> tuple[list[Any], float]:
        """Run all batches; returns the raw outputs and the synchronised seconds."""
        imitate = self.request.imitate
        mode = imitation.Imitation(imitate) if imitate else contextlib.nullcontext()
        outputs = []
        started = time.perf_counter()
        # The hooks come last and so act first: what they change is then rounded by the mode.
        with torch.no_grad(), mode, self.hooks or contextlib.nullcontext():
            for batch in batches:
                self._features = None
                output = self.model(batch)
                outputs.append({"output": output, "forward_features": self._features})
        self.device.synchronize()
        return outputs, time.perf_counter() - started


def _batch_variants(passes: _Passes, images: torch.Tensor) -> dict[str, dict[str, Array]]:
    """The images in reverse order (put back afterwards) and one by one."""
    backwards, _ = passes.forward(passes.load(images.flip(0)))
    alone, _ = passes.forward(passes.load(images, batch_size=1))
    return {
        "permuted": {name: array[::-1] for name, array in collect(backwards).items()},
        "alone": collect(alone),
    }


def problem(device: Device, error: Exception, stage: Stage, operator: str = "") -> CaseProblem:
    """What an error means: the device's own, or one of the CPU or of the device alone.

    `operator`: the aten operator that raised it, if known.  It is named where the device lacks
    something; other errors may come from work that was queued long before.
    """
    explained = device.explain(error)
    if explained is not None:
        missing = operator and explained.status is Status.FAIL_UNSUPPORTED
        where = f" (raised in {operator})" if missing else ""
        return CaseProblem(explained.status, stage, explained.reason + where)
    text = " ".join(f"{type(error).__name__}: {error}".split())[:400]
    if device.spec.kind == "cpu":
        return CaseProblem(
            Status.FAIL_REFERENCE, stage, f"The model does not run on the CPU itself: {text}"
        )
    return CaseProblem(
        Status.ERROR_DEVICE, stage, f"{device.spec} raised an error that the CPU did not: {text}"
    )
