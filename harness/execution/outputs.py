"""A model's outputs: every tensor by name, brought to the host, compared bit by bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from harness.judgement.metrics import Array
from harness.system.messages import say
from harness.system.status import CaseProblem, Stage, Status


def flatten(
    value: Any, name: str = "output", *, rows: bool = True
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (name, tensor) for every tensor in an output: tensor, tuple, list, dict, dataclass.

    Raises CaseProblem (fail_unsupported) for anything else, and, where outputs have `rows`, for a
    single value, which belongs to no image.
    """
    if isinstance(value, torch.Tensor) and (value.dim() or not rows):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from flatten(item, f"{name}.{key}", rows=rows)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from flatten(item, f"{name}[{index}]", rows=rows)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from flatten(getattr(value, field.name), f"{name}.{field.name}", rows=rows)
    elif value is not None:
        what = "single value" if isinstance(value, torch.Tensor) else type(value).__name__
        raise CaseProblem(
            Status.FAIL_UNSUPPORTED,
            Stage.FORWARD,
            say(
                "output.kind",
                "The model returns a {what} at {name}: only tensors with a row for each image, and "
                "tuples, lists, dicts and dataclasses of them, can be compared; leave it out in "
                "eval mode.",
                what=what,
                name=name,
            ),
        )


def tensors(value: Any) -> Any:
    """What `flatten` takes of a value between two modules: sizes and flags beside it are left out.

    Such as (features, height, width); None without any tensor.
    """
    if isinstance(value, Mapping):
        return {key: tensors(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [tensors(item) for item in value]
    return value if isinstance(value, torch.Tensor) and value.dim() else None


def collect(raw: list[dict[str, Any]], *, apart: bool = False) -> dict[str, Array]:
    """Bring the outputs of all batches to the host and join them along the images.

    `apart`: each is that of one sample, and has no dimension of samples.  Floats become float32 or
    float64, complex numbers pairs of them; whole numbers stay as they are.  `raw`: a batch each,
    "output" of the model itself first.  Raises CaseProblem as `flatten`, for a model that returns
    no tensor, and (fail_shape) for batches that do not fit together.
    """
    parts: dict[str, list[Array]] = {}
    for batch in raw:
        for root, value in batch.items():
            for name, tensor in flatten(value, root, rows=not apart):
                parts.setdefault(name, []).append(_on_host(tensor[None] if apart else tensor))
            if not parts:
                raise CaseProblem(
                    Status.FAIL_UNSUPPORTED,
                    Stage.FORWARD,
                    say("output.none", "The model returns no tensor: there is nothing to compare."),
                )
    for name, arrays in parts.items():
        if len({array.shape[1:] for array in arrays}) > 1:
            shapes = ", ".join(str(list(array.shape)) for array in arrays)
            raise CaseProblem(
                Status.FAIL_SHAPE,
                Stage.FORWARD,
                say(
                    "output.shapes",
                    "Output {name!r} has the shapes {shapes} in the batches of one input: its "
                    "first dimension must be the images, and the others the same in every batch.",
                    name=name,
                    shapes=shapes,
                ),
            )
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _on_host(tensor: torch.Tensor) -> Array:
    host = tensor.detach().cpu()
    if host.is_complex():
        host = torch.view_as_real(host.resolve_conj())
    # NumPy has no bfloat16; float32 holds every float16 and bfloat16 value exactly.
    if host.is_floating_point() and host.dtype not in (torch.float32, torch.float64):
        host = host.to(torch.float32)
    return host.resolve_neg().numpy()


def unstable(results: list[dict[str, Array]]) -> tuple[str, ...]:
    """Names of outputs that differ in a bit between forwards; NaN equals NaN."""
    first = results[0]
    return tuple(
        name
        for name in first
        if any(
            name not in other or not np.array_equal(first[name], other[name], equal_nan=True)
            for other in results[1:]
        )
    )


def logits_name(outputs: dict[str, Array], classes: int) -> str | None:
    """The output of floats of shape [N, classes]; None for a model without a classifier."""
    for name, array in outputs.items():
        if classes and array.ndim == 2 and array.shape[1] == classes and array.dtype.kind == "f":
            return name
    return None
