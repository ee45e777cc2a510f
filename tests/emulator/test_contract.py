"""The emulated NPU refuses what CANN as published refuses, through torch_npu's own error."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from harness.devices import contract
from harness.devices.contract import Tensor
from harness.devices.emulator import Emulator
from harness.devices.fault_plan import Fault, FaultPlan
from harness.devices.npu import NpuDevice
from harness.system.status import Status
from tests.makers import refused


def on_device(name: str) -> Any:
    module = getattr(refused, name)()
    return module.to("npu")(module.example_inputs.npu())


def error_of(name: str) -> str:
    with pytest.raises(RuntimeError) as caught:
        on_device(name)
    return str(caught.value)


@pytest.mark.parametrize("name", refused.REFUSED)
def test_five_modules_are_refused_with_the_code_and_the_rule(npu: Emulator, name: str) -> None:
    operator, argument, problem = refused.REFUSED[name]
    text = error_of(name)
    assert f"call aclnn{operator} failed" in text and "error code is 161002" in text
    assert f"EMULATED NPU: aclnn{operator} refuses {argument}: " in text and problem in text
    assert npu.operator_counts().get(operator, 0) == 0, "it was computed all the same"


def half(*sizes: int) -> torch.Tensor:
    return torch.zeros(sizes, dtype=torch.float16).npu()


def float_(*sizes: int) -> torch.Tensor:
    return torch.zeros(sizes).npu()


CALLS = {
    "rank": (lambda: torch.relu(float_(*[1] * 9)), "Relu", {"self": [Tensor("float32", (1,) * 9)]}),
    "complex": (
        lambda: torch.relu(torch.zeros(2, dtype=torch.complex64).npu()),
        "Relu",
        {"self": [Tensor("complex64", (2,))]},
    ),
    "padding": (
        lambda: F.conv2d(float_(1, 1, 4, 4), float_(1, 1, 3, 3), padding=256),
        "Convolution",
        {"padding": [256, 256]},
    ),
    "dilation of a pool": (
        lambda: F.max_pool2d(float_(1, 1, 9, 9), 3, dilation=2),
        "MaxPool2dWithMask",
        {"dilation": [2, 2]},
    ),
    "dtype of a group norm's weight": (
        lambda: torch.ops.aten.native_group_norm(half(1, 4, 2), float_(4), None, 1, 4, 2, 2, 1e-5),
        "GroupNorm",
        {"self": [Tensor("float16", (1, 4, 2))], "gamma": [Tensor("float32", (4,))]},
    ),
    "list": (
        lambda: torch.cat([torch.zeros(2, dtype=torch.complex128).npu()] * 2),
        "Cat",
        {"tensors": [Tensor("complex128", (2,))] * 2},
    ),
    "values' heads": (
        lambda: torch.ops.npu.npu_fusion_attention(
            half(1, 2, 4, 16), half(1, 2, 4, 16), half(1, 2, 4, 32), 2, "BNSD"
        ),
        "FlashAttentionScore",
        {"head_num": [2], "head_size": [16], "key_head_size": [16], "value_head_size": [32]},
    ),
    "heads side by side": (
        lambda: torch.ops.npu.npu_fusion_attention(*[half(1, 4, 2048)] * 3, 2, "BSH"),
        "FlashAttentionScore",
        {"head_num": [2], "head_size": [1024]},
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_device_and_the_table_say_the_same_words(npu: Emulator, name: str) -> None:
    call, operator, arguments = CALLS[name]
    with pytest.raises(RuntimeError) as caught:
        call()
    said = re.search(r"EMULATED NPU: (aclnn.*)", str(caught.value))
    assert said, str(caught.value)
    assert said[1] == str(contract.refusals(operator, arguments)[0])


def test_the_process_goes_on_after_a_refusal(npu: Emulator) -> None:
    error_of("Int16Relu")
    assert (float_(3) + 1).cpu().tolist() == [1, 1, 1]


def test_the_contract_can_be_waived_for_some_calls_of_an_operator(npu: Emulator) -> None:
    npu.set_faults(FaultPlan((Fault("waive_contract", "Relu", first=2, last=2),)))
    torch.relu(float_(2))  # accepted, so not counted
    error_of("Int16Relu")
    assert on_device("Int16Relu").tolist() == [[0, 0, 0], [0, 0, 0]]
    error_of("Int16Relu")
    assert npu.fault_effects() == [1]


def test_the_contract_can_be_left_out(npu: Emulator) -> None:
    npu.set_contract(enforced=False)
    try:
        assert on_device("Rank9").shape == (2,) * 9
    finally:
        npu.set_contract()
    error_of("Rank9")


def test_a_refusal_is_no_fault_of_the_device() -> None:
    with pytest.raises(RuntimeError) as caught:
        on_device("BoolMean")
    device = NpuDevice.__new__(NpuDevice)
    device.spec, device.emulator = "npu-emulated", None  # type: ignore[assignment]
    problem = device.explain(caught.value)
    assert problem is not None and problem.status is Status.FAIL_UNSUPPORTED
    assert "aclnnMean refuses self: bool is none of" in problem.reason
