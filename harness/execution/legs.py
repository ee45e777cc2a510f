"""Runs one leg: one model over one input set on one device, in this process.

Torch, and what brings it in, is imported inside functions: the run's own process only asks.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from harness.cases.inputs import InputSet
from harness.cases.models.loading import LoadedModel
from harness.cases.models.range_meter import RangeMeter
from harness.cases.samples import Samples
from harness.execution.memory_meter import MemoryMeter
from harness.execution.own_module import AnyModel, OwnInputs
from harness.judgement import arithmetic, operator_rows
from harness.judgement.metrics import Array
from harness.judgement.operator_rows import OperatorCheck, OperatorRow
from harness.records.leg import LegRecord, Timing
from harness.system.host_use import HostMeter
from harness.system.messages import Said, join, say
from harness.system.status import CaseProblem, Stage, StageCallback, Status

if TYPE_CHECKING:
    import torch

    from harness.devices.device import Counters, Device


# What `_Passes` takes beside what a model returns.
_TAPPED = "forward_features"


@dataclasses.dataclass(frozen=True)
class LegRequest:
    """All that a leg needs; small enough to send to another process.

    `dtype`: torch dtype name; "float64" is the oracle, "autocast-float16" float32 under autocast.
    `repeat`: timed forwards after the warm-up, whose outputs are compared bit by bit.
    `batch_checks`: also run the images in reverse order, one by one and in full batches.
    `operator_share`: part of the operators to compare one by one as well, 0 for none, None for the
    usual choice (`operators/choice.py`); `operator_standard`: also by CANN's own standards
    (`vendor_standard`).  `fault_plan`: JSON, for a device that can plant faults.
    `fill`: repeat the images to fill every batch; row r of the outputs is of image r modulo N.
    `ranges`: also take the ranges of what nonlinear operators get, in the first pass.
    `promoted`: modules that stay in float32 in a short dtype.
    """

    model: AnyModel
    inputs: InputSet | OwnInputs
    dtype: str
    batch_size: int
    numerics: str
    repeat: int = 2
    batch_checks: bool = False
    fault_plan: str | None = None
    operator_share: float | None = 0.0
    operator_standard: bool = False
    fill: bool = False
    ranges: bool = False
    promoted: tuple[str, ...] = ()

    def once(self, **changes: Any) -> LegRequest:
        """The same model and images for one forward and nothing beside it, with `changes`."""
        plain: dict[str, Any] = {
            "repeat": 0,
            "batch_checks": False,
            "operator_share": 0.0,
            "operator_standard": False,
            "fill": False,
            "ranges": False,
        }
        return dataclasses.replace(self, **(plain | changes))

    def on_cpu(self, **changes: Any) -> LegRequest:
        """The same model and images for one plain CPU forward, with `changes`."""
        plain: dict[str, Any] = {
            "dtype": arithmetic.storage(self.dtype),
            "numerics": "strict",
            "fault_plan": None,
            "promoted": (),
        }
        return self.once(**(plain | changes))

    def answer(self, device: Device, on_stage: StageCallback) -> LegResult:
        """Run the leg in a device's process; as `run`."""
        return run(device, self, on_stage)


@dataclasses.dataclass(frozen=True)
class OtherImages:
    """A leg of the same model on images that are sent along: float32 [N, C, H, W], normalised."""

    leg: LegRequest
    images: Array

    def answer(self, device: Device, on_stage: StageCallback) -> LegResult:
        """Run the leg in a device's process; as `run`."""
        return run(device, self.leg, on_stage, images=self.images)


@dataclasses.dataclass(frozen=True)
class LegResult:
    """What a leg gave.

    `outputs`: name -> float32 or float64 array [N, ...]; `logits`: name of the classifier
    output, None for a model without one; `unstable`: outputs that differed between two forwards;
    `variants`: the outputs again, by the way the images were batched: "permuted", "alone" and,
    where they do not fill their batches, "full", whose row r is of image r modulo N.
    `undeclared`: what the device computes otherwise than its settings declare, in sentences.
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
    undeclared: tuple[Said, ...] = ()

    def returned(self) -> LegResult:
        """Only what the model returned, in its own batches: much less to keep."""
        own = {name: array for name, array in self.outputs.items() if not name.startswith(_TAPPED)}
        return dataclasses.replace(self, outputs=own, variants={}, operators=None)


def run(
    device: Device,
    request: LegRequest,
    on_stage: StageCallback,
    load: Callable[[AnyModel], LoadedModel] = lambda model: model.load(),
    images: Array | None = None,
) -> LegResult:
    """Run one leg; `load` gives it a model that it may change.

    `images`: float32 [N, C, H, W] in place of the request's own.  Raises CaseProblem with the
    status and stage of what went wrong; every other exception is the harness' own fault.
    """
    from harness.execution import autocast, factors, gelu, outputs
    from harness.execution.operators.counter import OperatorCounter

    stage = Stage.LOAD

    def enter(new: Stage) -> None:
        nonlocal stage
        stage = new
        on_stage(new)

    meter_of_ranges = RangeMeter() if request.ranges else None
    executed = OperatorCounter(meter_of_ranges)
    try:
        enter(Stage.LOAD)
        meter = MemoryMeter(device)
        numerics = device.apply_numerics(request.numerics)
        loaded = load(request.model)
        samples = request.inputs.load() if images is None else _samples(images)
        # Planned faults count calls from here to the last forward pass, and no other work.
        device.plant(request.fault_plan)

        enter(Stage.TRANSFER)
        passes = Passes(device, loaded, request.dtype, request.batch_size, request.promoted)
        batches = passes.load(samples.filled(request.batch_size) if request.fill else samples)
        device.synchronize()

        enter(Stage.FORWARD)
        # The first pass is the warm-up; it also counts the operators, so its time stands apart.
        with executed:
            first, first_seconds = passes.forward(batches)
        enter(Stage.SYNCHRONIZE)
        results, seconds = [outputs.collect(first, apart=samples.apart)], []
        others = HostMeter()
        for _ in range(request.repeat):
            enter(Stage.FORWARD)
            with others:
                raw, taken = passes.forward(batches)
            seconds.append(taken)
            enter(Stage.SYNCHRONIZE)
            results.append(outputs.collect(raw, apart=samples.apart))
        enter(Stage.FORWARD)
        variants = _batch_variants(passes, samples) if request.batch_checks else {}
        counters, used = device.counters(), meter.read()
        device.plant(None)
        form = gelu.instead(device.torch_device, executed.gelu)
        described = device.describe()
        undeclared: list[Said] = []
        if form is not None:
            numerics = {**numerics, "gelu": form}
        if request.promoted:
            numerics = {**numerics, "promoted": " ".join(request.promoted)}
        if request.dtype != arithmetic.storage(request.dtype):
            short = request.dtype.removeprefix(arithmetic.AUTOCAST)
            numerics |= autocast.measure(device.torch_device, short).settings()
        if request.dtype == "float32" and device.torch_device.type != "cpu":
            seen, undeclared = factors.measure(device.torch_device, numerics, described.name)
            numerics = {**numerics, **seen}
        record = LegRecord(
            device=described,
            numerics=numerics,
            timing=Timing(
                batch_size=request.batch_size,
                images=len(samples),
                forward_seconds=seconds,
                first_forward_seconds=first_seconds,
                threads=device.threads(),
                host_use=others.found() if device.spec.kind == "cpu" else None,
            ),
            operators=executed.counts,
            fallback_operators=device.fallback_operators(list(executed.counts)),
            weights_sha256=loaded.weights_sha256,
            memory=used,
            ranges=list(meter_of_ranges.found()) if meter_of_ranges else [],
            model=loaded.facts,
        )
        # Their memory may be needed.
        num_classes = loaded.num_classes
        weights = f"{loaded.weights_description}: {loaded.description}"
        passes.close()
        del loaded, batches, first
        device.release()
        check = None
        if request.operator_share != 0:
            rows = operators_alone(device, request, samples, record.numerics)
            check = operator_rows.summarise(rows, request.operator_share)
    except CaseProblem:
        raise
    except Exception as error:
        raise problem(device, error, stage, executed.failed) from error
    return LegResult(
        outputs=results[-1],
        logits=outputs.logits_name(results[-1], num_classes),
        unstable=outputs.unstable(results),
        record=record,
        weights=weights,
        counters=counters,
        variants=variants,
        operators=check,
        undeclared=tuple(undeclared),
    )


def _samples(images: Array) -> Samples:
    import torch

    return Samples.of(torch.from_numpy(images))


def operators_alone(
    device: Device, request: LegRequest, samples: Samples, numerics: dict[str, str]
) -> list[OperatorRow]:
    """Compare operators one by one, in the first batch of samples as the model runs it.

    `numerics`: what the device says of itself (`Device.apply_numerics`).
    """
    from harness.execution.operators import trace

    device.plant(request.fault_plan)  # counts calls from the first operator again
    model = request.model.load().model
    with device.watching(model):
        return trace.check(
            model,
            samples.rows(slice(request.batch_size)).filled(request.batch_size),
            device,
            arithmetic.declared(request.dtype, numerics),
            share=request.operator_share,
            standard=request.operator_standard,
        )


class Passes:
    """A model on its device, and forward passes through it in a dtype and in batches.

    `promoted`: modules that stay in float32.
    """

    def __init__(
        self,
        device: Device,
        loaded: LoadedModel,
        dtype: str,
        batch_size: int,
        promoted: tuple[str, ...] = (),
    ) -> None:
        import torch

        from harness.execution import autocast

        self.device = device
        self.batch_size = batch_size
        self.dtype: torch.dtype = getattr(torch, arithmetic.storage(dtype))
        self.autocast = functools.partial(autocast.of, dtype, device.torch_device)
        self.model = device.place(loaded.model, self.dtype, promoted)
        self._features: Any = None
        inner = getattr(self.model, "forward_features", None)
        if loaded.taps_features and callable(inner):
            # Pooling hides spatial errors, so the features before it are an output as well.
            def tapped(*args: Any, **kwargs: Any) -> Any:
                self._features = inner(*args, **kwargs)
                return self._features

            self.model.forward_features = tapped  # type: ignore[assignment]

    def close(self) -> None:
        """Let go of the model, which holds itself through `tapped`."""
        vars(self.model).pop("forward_features", None)
        del self.model

    def load(self, samples: Samples, batch_size: int | None = None) -> list[Samples]:
        """Move samples to the device in batches, floating-point ones in the leg's dtype."""
        size = batch_size or self.batch_size
        return [batch.mapped(self._placed) for batch in samples.batches(size)]

    def _placed(self, tensor: torch.Tensor) -> torch.Tensor:
        dtype = self.dtype if tensor.is_floating_point() else tensor.dtype
        return self.device.place_batch(tensor, dtype)

    def forward(self, batches: list[Samples]) -> tuple[list[Any], float]:
        """Run all batches; returns the raw outputs and the synchronised seconds."""
        import torch

        from harness.execution import outputs

        found = []
        started = time.perf_counter()
        watching = self.device.watching(self.model)
        with torch.no_grad(), self.device.around_forward(), watching, self.autocast():
            for batch in batches:
                self._features = None
                output = batch.call(self.model)
                features = outputs.tensors(self._features)
                found.append({"output": output, _TAPPED: features})
        self.device.synchronize()
        return found, time.perf_counter() - started


def _batch_variants(passes: Passes, samples: Samples) -> dict[str, dict[str, Array]]:
    """The images in reverse order (put back afterwards), one by one, and in full batches."""
    from harness.execution import outputs

    backwards, _ = passes.forward(passes.load(samples.backwards()))
    alone, _ = passes.forward(passes.load(samples, batch_size=1))
    found = {
        "permuted": {name: array[::-1] for name, array in outputs.collect(backwards).items()},
        "alone": outputs.collect(alone),
    }
    if len(samples) % passes.batch_size:
        full, _ = passes.forward(passes.load(samples.filled(passes.batch_size)))
        found["full"] = outputs.collect(full)
    return found


def problem(device: Device, error: Exception, stage: Stage, operator: str = "") -> CaseProblem:
    """What an error means: the device's own, or one of the CPU or of the device alone.

    `operator`: the aten operator that raised it, if known.  It is named where the device lacks
    something; other errors may come from work that was queued long before.
    """
    explained = device.explain(error)
    if explained is not None:
        missing = operator and explained.status is Status.FAIL_UNSUPPORTED
        where = say("raised", "(raised in {operator})", operator=operator) if missing else ""
        return CaseProblem(explained.status, stage, join(explained.reason, where))
    text = " ".join(f"{type(error).__name__}: {error}".split())[:400]
    if device.spec.kind == "cpu":
        english = "The model does not run on the CPU itself: {error}"
        return CaseProblem(Status.FAIL_REFERENCE, stage, say("cpu.error", english, error=text))
    english = "{device} raised an error that the CPU did not: {error}"
    said = say("device.error", english, device=device.spec, error=text)
    return CaseProblem(Status.ERROR_DEVICE, stage, said)
