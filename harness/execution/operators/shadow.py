"""A forward pass on another side, led operator by operator by the reference's.

Both sides advance together, so that an activation is compared as soon as it exists and nothing is
kept longer than the model itself keeps it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from harness.execution.operators.calls import Call, rerun, tensors_in


class Shadow:
    """Twins of the reference's tensors: what the other side has in their place.

    A tensor without a twin, such as a parameter or an image, is brought over whenever it is used:
    `bring` knows which to keep.  `restarts` counts uses of results that had to be brought over as
    well, because the other side has nothing that fits: what it had inherited by then is lost.
    """

    def __init__(
        self,
        bring: Callable[[torch.Tensor], torch.Tensor],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
        mode: contextlib.AbstractContextManager[Any] | None = None,
    ) -> None:
        """Make a side whose tensors come from `bring`.

        `dtype`: what float32 is there; `device`: None for the CPU, whose own operators are then
        used; `mode`: entered around every operator.
        """
        self.restarts = 0
        self._bring = bring
        self._dtype = dtype
        self._device = device
        self._mode = mode
        self._twins = WeakTensorKeyDictionary()
        self._results = WeakTensorKeyDictionary()  # tensors that the reference computed

    def follow(self, call: Call) -> Any:
        """Run a call on the twins of its arguments; raises what the side raises."""
        try:
            return self._run(call, self.twin)
        except RuntimeError:
            if not call.func.is_view:
                raise
            # Another memory format than the reference's, of which there is no such view.
            return self._run(call, lambda tensor: self.twin(tensor).contiguous())

    def adopt(self, value: Any, twins: Any) -> None:
        """Remember the twins of a call's result; those of other shapes are of no use."""
        theirs = tensors_in(twins)
        for number, tensor in enumerate(tensors_in(value)):
            self._results[tensor] = True
            if number < len(theirs) and theirs[number].shape == tensor.shape:
                self._twins[tensor] = theirs[number]
            else:
                self._twins.pop(tensor, None)

    def has(self, tensor: torch.Tensor) -> bool:
        """Whether the reference computed this tensor."""
        return tensor in self._results

    def twin(self, tensor: torch.Tensor) -> torch.Tensor:
        """What this side has in the place of a tensor of the reference."""
        found: torch.Tensor | None = self._twins.get(tensor)
        if found is not None:
            return found
        self.restarts += tensor in self._results
        return self._bring(tensor)

    def _run(self, call: Call, convert: Callable[[torch.Tensor], torch.Tensor]) -> Any:
        with self._mode or contextlib.nullcontext():
            return rerun(
                call,
                call.func,
                convert,
                lambda dtype: self._dtype if dtype == torch.float32 else dtype,
                device=self._device,
            )
