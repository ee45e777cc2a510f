"""A call's arguments on a device, lying there as its signature says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

from harness.execution.operators.calls import Call, rerun, stored, tensors_in

if TYPE_CHECKING:
    from harness.devices.device import Device

# Allocators that give memory back as it was left.
_CACHING = ("npu", "cuda")
_ODD = 3  # elements before a moved tensor


def shares(results: Iterable[torch.Tensor], arguments: Iterable[torch.Tensor]) -> bool:
    """Whether a result lies in an argument's memory, as of an operator that gives one back."""
    taken = {tensor.untyped_storage().data_ptr() for tensor in arguments}
    return any(tensor.untyped_storage().data_ptr() in taken for tensor in results)


class Placing:
    """Brings calls to a device in a dtype and runs them there."""

    def __init__(self, device: Device, store: torch.dtype) -> None:
        self._device = device
        self._store = store

    def arguments(self, call: Call, apart: bool = False) -> dict[int, torch.Tensor]:
        """`id` of each tensor of a call -> the same on the device, in memory of its own.

        Strides, offset and what lies between the elements are those of the host's tensor; `apart`:
        every element has a gap behind it, and the first one an offset.
        """
        return {id(tensor): self._placed(tensor, apart) for tensor in call.tensors()}

    def run(self, call: Call, placed: dict[int, torch.Tensor]) -> Any:
        """The call on its placed arguments; raises what the device raises."""
        return rerun(
            call,
            self._device.operator(call.func),
            lambda tensor: placed[id(tensor)],
            lambda dtype: dtype,
            device=self._device.torch_device,
        )

    def _placed(self, tensor: torch.Tensor, apart: bool) -> torch.Tensor:
        if apart and tensor.dim():
            steps = [2 * step for step in tensor.stride()]
            reach = 1 + sum((n - 1) * step for n, step in zip(tensor.shape, steps, strict=True))
            filler = torch.nan if tensor.is_floating_point() or tensor.is_complex() else 0
            base = torch.full((_ODD + max(1, reach),), filler, dtype=tensor.dtype)
            wide = base.as_strided(tensor.shape, steps, _ODD)
            if 0 not in steps:
                tensor = wide.copy_(tensor)
        whole = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
        moved = stored(whole, self._store).to(self._device.torch_device)
        if moved.data_ptr() == whole.data_ptr() and whole.numel():
            moved = moved.clone()
        return moved.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

    def poison(self, held: list[torch.Tensor], value: Any) -> set[int]:
        """Fill results with NaN before they are given back; addresses of their memory.

        Nothing where the device's memory is not known to come back as it was left.
        """
        if self._device.torch_device.type not in _CACHING:
            return set()
        addresses = set()
        for tensor in (*held, *tensors_in(value)):
            if tensor.numel() and tensor.is_contiguous():
                floats = tensor.is_floating_point() or tensor.is_complex()
                tensor.fill_(torch.nan if floats else 1)
                addresses.add(tensor.data_ptr())
        return addresses

    @staticmethod
    def gaps(call: Call) -> bool:
        """Whether an argument is part of a greater tensor."""
        return any(
            tensor.untyped_storage().nbytes() > tensor.numel() * tensor.element_size()
            for tensor in call.tensors()
            if 0 not in tensor.stride()
        )
