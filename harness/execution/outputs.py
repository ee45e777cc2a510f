"""A model's outputs: every tensor by name, brought to the host, compared bit by bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from harness.judgement.metrics import Array
from harness.system.status import CaseProblem, Stage, Status


def flatten(value: Any, name: str = "output") -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (name, tensor) for every tensor in an output: tensor, tuple, list, dict, dataclass.

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
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from flatten(getattr(value, field.name), f"{name}.{field.name}")
    elif value is not None:
        raise CaseProblem(
            Status.FAIL_UNSUPPORTED,
            Stage.FORWARD,
            f"The model returns a {type(value).__name__} at {name}: only tensors, and tuples, "
            "lists, dicts and dataclasses of tensors can be compared.",
        )


def collect(raw: list[dict[str, Any]], *, apart: bool = False) -> dict[str, Array]:
    """Bring the outputs of all batches to the host and join them along the images.

    `apart`: each is that of one sample, and has no dimension of samples.  Integers are float64.
    """
    parts: dict[str, list[Array]] = {}
    for batch in raw:
        for root, value in batch.items():
            for name, tensor in flatten(value, root):
                host = tensor.detach().cpu()
                if host.is_complex():
                    host = torch.view_as_real(host.resolve_conj())
                # NumPy has no bfloat16; float32 holds every float16 and bfloat16 value exactly.
                if host.dtype not in (torch.float32, torch.float64):
                    wide = torch.float32 if host.is_floating_point() else torch.float64
                    host = host.to(wide)
                parts.setdefault(name, []).append((host[None] if apart else host).numpy())
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


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
    """The output of shape [N, classes]; None for a model without a classifier."""
    for name, array in outputs.items():
        if classes and array.ndim == 2 and array.shape[1] == classes:
            return name
    return None
