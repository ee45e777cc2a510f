"""Runs one leg: one model over one input set on one device, in this process."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harness import inputs, models
from harness.metrics import Array
from harness.records import LegRecord, Timing
from harness.status import CaseProblem, Stage, Status

if TYPE_CHECKING:
    from harness.devices.base import Device

StageCallback = Callable[[Stage], None]


@dataclasses.dataclass(frozen=True)
class LegRequest:
    """All that a leg needs; small enough to send to another process."""

    model_dir: Path
    num_classes: int | None
    allow_keys: tuple[str, ...]
    allow_pickle: bool
    inputs: inputs.InputSet
    dtype: str
    batch_size: int
    numerics: str
    repeat: int = 2  # timed forwards after the warm-up; their outputs are compared bit by bit


@dataclasses.dataclass(frozen=True)
class LegResult:
    """What a leg gave.

    `outputs`: name -> float32 or float64 array [N, ...]; `logits`: name of the classifier
    output, None for a model without one; `unstable`: outputs that differed between two forwards.
    """

    outputs: dict[str, Array]
    logits: str | None
    unstable: tuple[str, ...]
    record: LegRecord
    weights: str


def run(device: Device, request: LegRequest, on_stage: StageCallback) -> LegResult:
    """Run one leg.

    Raises CaseProblem with the status and stage of what went wrong; every other exception is
    the harness' own fault.
    """
    stage = Stage.LOAD

    def enter(new: Stage) -> None:
        nonlocal stage
        stage = new
        on_stage(new)

    try:
        enter(Stage.LOAD)
        numerics = device.apply_numerics(request.numerics)
        loaded = models.load_model(
            request.model_dir,
            num_classes=request.num_classes,
            allow_keys=request.allow_keys,
            allow_pickle=request.allow_pickle,
        )
        images = inputs.load_inputs(request.inputs)
        dtype = getattr(torch, request.dtype)

        enter(Stage.TRANSFER)
        model = loaded.model.to(dtype).to(device.torch_device).eval()
        batches = [
            batch.to(dtype).to(device.torch_device) for batch in images.split(request.batch_size)
        ]
        device.synchronize()

        enter(Stage.FORWARD)
        operators = OperatorCounter()
        with torch.no_grad():
            # The first pass is the warm-up; it also counts the operators, so it is not timed
            # as a forward.
            started = time.perf_counter()
            with operators:
                first = _forward(model, batches)
            device.synchronize()
            first_seconds = time.perf_counter() - started
            results = [_collect(first, enter)]
            seconds = []
            for _ in range(request.repeat):
                started = time.perf_counter()
                raw = _forward(model, batches)
                device.synchronize()
                seconds.append(time.perf_counter() - started)
                results.append(_collect(raw, enter))
    except CaseProblem:
        raise
    except Exception as error:
        raise _problem(device, error, stage) from error

    outputs = results[-1]
    executed = list(operators.counts)
    return LegResult(
        outputs=outputs,
        logits=_logits_name(outputs, loaded.model),
        unstable=_unstable(results),
        record=LegRecord(
            device=device.describe(),
            numerics=numerics,
            timing=Timing(
                batch_size=request.batch_size,
                images=len(images),
                forward_seconds=seconds,
                first_forward_seconds=first_seconds,
                threads=torch.get_num_threads() if device.spec.kind == "cpu" else None,
            ),
            operators=operators.counts,
            fallback_operators=device.fallback_operators(executed),
            weights_sha256=loaded.weights_sha256,
        ),
        weights=f"{loaded.weights_description}: {loaded.description}",
    )


class OperatorCounter(TorchDispatchMode):
    """Counts the aten operators executed inside it, in the order of their first call."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = f"{func._schema.name}.{func._overloadname}"
        self.counts[name] = self.counts.get(name, 0) + 1
        return func(*args, **(kwargs or {}))


def flatten(value: Any, name: str = "output") -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (name, tensor) for every tensor in a model's output: tensor, tuple, list or dict.

    Raises CaseProblem (fail_unsupported) for anything else.
    """
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from flatten(item, f"{name}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from flatten(item, f"{name}[{index}]")
    elif value is not None:
        raise CaseProblem(
            Status.FAIL_UNSUPPORTED,
            Stage.FORWARD,
            f"The model returns a {type(value).__name__} at {name}: only tensors, tuples, lists "
            "and dicts of tensors can be compared.",
        )


def _forward(model: torch.nn.Module, batches: list[torch.Tensor]) -> list[Any]:
    return [model(batch) for batch in batches]


def _collect(raw: list[Any], enter: StageCallback) -> dict[str, Array]:
    """Bring the outputs of all batches to the host and join them along the images."""
    enter(Stage.SYNCHRONIZE)
    parts: dict[str, list[Array]] = {}
    for output in raw:
        for name, tensor in flatten(output):
            host = tensor.detach().cpu()
            # NumPy has no bfloat16; float32 holds every float16 and bfloat16 value exactly.
            if host.dtype not in (torch.float32, torch.float64):
                host = host.to(torch.float32)
            parts.setdefault(name, []).append(host.numpy())
    enter(Stage.FORWARD)
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _unstable(results: list[dict[str, Array]]) -> tuple[str, ...]:
    first = results[0]
    return tuple(
        name
        for name in first
        if any(
            name not in other or not np.array_equal(first[name], other[name], equal_nan=True)
            for other in results[1:]
        )
    )


def _logits_name(outputs: dict[str, Array], model: torch.nn.Module) -> str | None:
    classes = getattr(model, "num_classes", 0)
    for name, array in outputs.items():
        if classes and array.ndim == 2 and array.shape[1] == classes:
            return name
    return None


def _problem(device: Device, error: Exception, stage: Stage) -> CaseProblem:
    explained = device.explain(error)
    if explained is not None:
        return CaseProblem(explained.status, stage, explained.reason)
    text = " ".join(f"{type(error).__name__}: {error}".split())[:400]
    if device.spec.kind == "cpu":
        return CaseProblem(
            Status.FAIL_REFERENCE, stage, f"The model does not run on the CPU itself: {text}"
        )
    return CaseProblem(
        Status.ERROR_DEVICE, stage, f"{device.spec} raised an error that the CPU did not: {text}"
    )
