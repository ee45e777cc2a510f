"""The CPU, computing otherwise than with its own kernels in their own order.

Budgets, the oracle of a device's own GELU and faults on devices that cannot plant any are CPU legs
in such a variant; a leg itself does not know of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Iterator

import torch
from torch import nn

from harness.cases.models import promotion
from harness.devices.cpu import CpuDevice
from harness.devices.device import Counters
from harness.execution import autocast, imitation, widening
from harness.execution.fault_hooks import FaultHooks
from harness.judgement.arithmetic import Arithmetic


@dataclasses.dataclass(frozen=True)
class CpuVariant:
    """How it computes.

    `imitate`: round float32 operators as this arithmetic does.  `reorder`: sum in another order
    (channels last, one thread).  `hooks`: plant faults through hooks, and count operators.
    """

    imitate: Arithmetic | None = None
    reorder: bool = False
    hooks: bool = False


class VariantCpu(CpuDevice):
    """The CPU in a variant."""

    def __init__(self, variant: CpuVariant) -> None:
        super().__init__()
        self.variant = variant
        self._hooks: FaultHooks | None = None
        self._imitation = None if variant.imitate is None else imitation.Imitation(variant.imitate)

    def plant(self, fault_plan: str | None) -> None:
        """Plant through hooks, where the variant has them; else refuse as the CPU does."""
        if self.variant.hooks:
            self._hooks = FaultHooks(fault_plan)
        else:
            super().plant(fault_plan)

    def watching(self, model: nn.Module) -> contextlib.AbstractContextManager[None]:
        """Tell the hooks, where there are some."""
        hooks = self._hooks
        return super().watching(model) if hooks is None else hooks.modules.watching(model)

    def counters(self) -> Counters:
        """What the hooks saw since `plant`."""
        return self._hooks.counters if self._hooks is not None else super().counters()

    def place(
        self, model: nn.Module, dtype: torch.dtype, promoted: Collection[str] = ()
    ) -> nn.Module:
        """Round the weights as the arithmetic stores them, and lay them out."""
        if self._imitation is not None:
            declared = self._imitation.arithmetic
            store = imitation.storage_dtype(declared)
            imitation.round_weights(model, declared)
            promotion.bound(
                model,
                declared.promoted,
                torch.clone,  # as a cast to float32, which leaves alone what it is given
                lambda tensor: tensor.to(store).float(),
                self._imitation.entered,
            )
        if dtype == torch.float64:
            return widening.by_operator(model).eval()
        placed = super().place(model, dtype, promoted)
        if self.variant.reorder:
            # Not model.to(memory_format=...), which refuses models with weights of five dimensions.
            for tensor in (*placed.parameters(), *placed.buffers()):
                if tensor.dim() == 4:
                    tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
        return placed

    def place_batch(self, images: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Round the images as the arithmetic stores them, and lay them out."""
        if self.variant.imitate is not None and images.is_floating_point():
            images = images.to(getattr(torch, self.variant.imitate.dtype))
        last = self.variant.reorder and images.dim() == 4
        layout = torch.channels_last if last else torch.contiguous_format
        return super().place_batch(images, dtype).contiguous(memory_format=layout)

    @contextlib.contextmanager
    def around_forward(self) -> Iterator[None]:
        """Imitation, hooks and threads; what was in force before is again afterwards."""
        threads = torch.get_num_threads()
        with contextlib.ExitStack() as stack:
            if self._imitation is not None:
                policy = self._imitation.arithmetic.autocast
                if policy is not None:
                    stack.enter_context(autocast.imitated(policy))
                stack.enter_context(self._imitation)
            # The hooks come last and so act first: what they change is then rounded.
            if self._hooks is not None:
                stack.enter_context(self._hooks)
            torch.set_num_threads(self.threads())
            try:
                yield
            finally:
                torch.set_num_threads(threads)

    def threads(self) -> int:
        """One where the order of sums has to be another."""
        return 1 if self.variant.reorder else torch.get_num_threads()
