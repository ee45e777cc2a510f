"""The operator calls of a model as a device's dispatcher gets them, found on shapes alone.

A model on torch's meta device holds shapes and no numbers, so that no weights are made or moved.
Two things make its calls those of a device: composites that the device has a kernel for stay whole
(`execution/operators/dispatch.py`), and results lie in memory as that device would leave them.
torch_npu's operators give contiguous results whatever their arguments are; PyTorch's own keep the
order of strides.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from harness.cases.architectures import without_values
from harness.execution.operators import dispatch
from harness.execution.operators.calls import Call, mapped, qualified_name, why_not_comparable
from harness.execution.operators.recorder import recording
from harness.judgement.operator_rows import NO_LAYER
from harness.qualification import signatures
from harness.qualification.signatures import Signature

# torch_npu's kernels of these call the operators that PyTorch takes them apart into.
_TAKEN_APART = frozenset({"aten::softmax.int", "aten::adaptive_avg_pool2d.default"})


@dataclasses.dataclass(frozen=True)
class Level:
    """What decides which calls a device gets.

    `whole`: composites that are one call, such as "aten::matmul.default"; `dense_results`: whether
    operators give contiguous results whatever their arguments are, as torch_npu's do.
    """

    whole: tuple[str, ...]
    dense_results: bool

    @classmethod
    def of(cls, device: torch.device) -> Level:
        """That of a device of this process."""
        names = (qualified_name(func) for func in dispatch.whole_on(device))
        return cls(tuple(sorted(set(names) - _TAKEN_APART)), device.type == "npu")

    @contextlib.contextmanager
    def on_meta(self) -> Iterator[None]:
        """While inside, calls on the meta device are those of this level."""
        funcs = [Signature(name, (), {}).func for name in self.whole]
        with dispatch.as_one(funcs, "Meta"):
            yield


def _dense(leaf: Any, taken: set[int]) -> Any:
    """A result as it lies on a device that gives contiguous ones; arguments are left alone."""
    if not isinstance(leaf, torch.Tensor) or leaf.is_contiguous() or id(leaf) in taken:
        return leaf
    return torch.empty(leaf.shape, dtype=leaf.dtype, device=leaf.device)


def on_meta(build: Callable[[], torch.nn.Module], dtype: torch.dtype) -> torch.nn.Module:
    """What `build` makes, on the meta device, in a dtype and in eval mode."""
    with torch.device("meta"), without_values():
        model = build().eval()
    return model.requires_grad_(False).to(dtype)


def count(
    model: torch.nn.Module, shape: Sequence[int], dtype: torch.dtype, level: Level
) -> Counter[str]:
    """Signatures of all calls that compute something, and how often a forward pass makes them.

    `shape`: of the images, [N, C, H, W]; `model`: on the meta device, as they are.  To be used
    inside `level.on_meta()`, which takes a while.  Raises what the model raises where its way
    depends on numbers.
    """
    found: Counter[str] = Counter()

    def on_call(call: Call, index: int, module: str) -> Any:
        computes = why_not_comparable(call) not in NO_LAYER
        if computes:
            found[signatures.of_call(call).text] += 1
        result = call.func(*call.args, **call.kwargs)
        if computes and level.dense_results and not call.func.is_view:
            taken = {id(tensor) for tensor in call.tensors()}
            return mapped(lambda leaf: _dense(leaf, taken), result)
        return result

    images = torch.empty(tuple(shape), dtype=dtype, device="meta")
    with recording(model, contextlib.nullcontext(), on_call):
        model(images)
    return found
