"""Which tensors stay on a device between the calls of a forward pass."""

import gc
import weakref

import torch

from harness.devices.cpu import CpuDevice
from harness.execution.operators.on_device import DeviceSide
from harness.judgement.arithmetic import Arithmetic


def side_of(model):
    return DeviceSide(model, CpuDevice(), Arithmetic("bfloat16"))


def model_with_buffer():
    model = torch.nn.Linear(2, 2)
    model.register_buffer("kept", torch.zeros(1000))
    return model


def test_no_other_tensor_gets_the_address_of_a_replaced_buffer():
    """ConViT makes its relative indices in the first forward pass."""
    model = model_with_buffer()
    side = side_of(model)
    old = weakref.ref(model.kept)
    model.kept = torch.zeros(3)
    gc.collect()
    assert old() is not None  # while the side knows its address
    del side
    gc.collect()
    assert old() is None


def test_a_buffer_that_a_forward_writes_to_is_moved_again():
    model = model_with_buffer()
    side = side_of(model)
    first = side.bring(model.kept)
    assert side.bring(model.kept) is first
    model.kept.add_(1)
    assert torch.equal(side.bring(model.kept).float(), model.kept)
    assert torch.equal(side.bring(model.kept[:5]).float(), torch.ones(5))
