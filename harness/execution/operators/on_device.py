"""Operator calls on a device: what they need is moved there in the declared dtype."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any

import torch

from harness.execution.imitation import storage_dtype
from harness.execution.operators.calls import Call, rerun, results, stored
from harness.judgement.arithmetic import Arithmetic

if TYPE_CHECKING:
    from harness.devices.device import Device

# torch_npu refuses to create a tensor with its channels last.
_CHANNELS_LAST_DEVICES = ("cpu", "cuda", "meta")
# Bytes of parameters that stay on the device: those of many layers, or one call's that are larger.
_STAYING = 1 << 28


class DeviceSide:
    """Runs calls on a device in a declared dtype; parameters stay there from call to call.

    `model`: its parameters and buffers are the tensors that stay on the device, those that were
    used last: a pass uses most of them in one layer, and a second copy of all may not fit.
    """

    def __init__(self, model: torch.nn.Module, device: Device, arithmetic: Arithmetic) -> None:
        self._device = device.torch_device
        self._operator = device.operator
        self._store = storage_dtype(arithmetic)
        # The tensors themselves: a model may replace a buffer in its forward, and the allocator
        # would give the address of the old one to a tensor that does not last.
        self._lasting = {
            tensor.untyped_storage().data_ptr(): tensor
            for tensor in (*model.parameters(), *model.buffers())
            if tensor.numel()
        }
        self._moved: collections.OrderedDict[tuple[Any, ...], torch.Tensor] = (
            collections.OrderedDict()
        )
        self._bytes = 0

    def run(self, call: Call) -> list[torch.Tensor]:
        """The call on the device; raises what the device raises."""
        value = rerun(
            call,
            self._operator(call.func),
            self._move,
            lambda dtype: self._store if dtype == torch.float32 else dtype,
            device=self._device,
            keep=self._kept,
        )
        return results(call, value)

    def bring(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor on the device in the declared dtype; parameters always the same one."""
        kept = self._kept(tensor)
        return self._move(tensor) if kept is None else kept

    def _move(self, tensor: torch.Tensor) -> torch.Tensor:
        # Cast first: what the device would round on the way is none of the operator's business.
        return _moved(stored(tensor, self._store), self._device)

    def _kept(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The device's copy of a parameter, or of a view of one; None for other tensors."""
        storage = tensor.untyped_storage().data_ptr()
        if storage not in self._lasting:
            return None
        # The version: some models write to a buffer in their forward.
        place = tensor.data_ptr(), tensor._version
        key = (*place, tuple(tensor.shape), tensor.stride(), tensor.dtype)
        if key not in self._moved:
            self._moved[key] = self._move(tensor)
            self._bytes += self._moved[key].nbytes
            while self._bytes > _STAYING and len(self._moved) > 1:
                self._bytes -= self._moved.popitem(last=False)[1].nbytes
        self._moved.move_to_end(key)
        return self._moved[key]


def _moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor on a device, dense and with the same order of strides.

    A transposed tensor is moved as the contiguous one that it is a view of: devices copy others
    element by element with an operator of their own, which is not the one to be judged.  Channels
    that the CPU's convolution left last become contiguous on a device that has no such format:
    there the operator before would have made them so.
    """
    if device.type not in _CHANNELS_LAST_DEVICES and memory_format(tensor) == "channels_last":
        return tensor.contiguous().to(device)
    order = dense_order(tensor)
    dense = tensor.permute(order).contiguous().to(device)
    return dense.permute([order.index(i) for i in range(tensor.dim())])


def dense_order(tensor: torch.Tensor) -> list[int]:
    """Dimensions in the order in which a tensor's memory runs through them, the slowest first."""
    return sorted(range(tensor.dim()), key=lambda i: (-tensor.stride()[i], i))


def memory_format(tensor: torch.Tensor) -> str:
    """Return "contiguous", "channels_last" (four or five dimensions) or "strided"."""
    if tensor.is_contiguous():
        return "contiguous"
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(tensor.dim())
    if last is not None and tensor.is_contiguous(memory_format=last):
        return "channels_last"
    return "strided"
