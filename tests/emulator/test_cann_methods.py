"""What the profile `cann` computes is as CANN computes it; with a mistake it is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from harness.devices import npu as npu_module
from harness.devices.emulator import Emulator
from harness.devices.npu import NpuDevice
from harness.devices.spec import parse
from harness.execution.operators import trace
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.operator_rows import OperatorRow, culprits


@pytest.fixture
def device(cann: Emulator, monkeypatch: pytest.MonkeyPatch) -> NpuDevice:
    """The emulated NPU of the pytest process as the harness opens it, with its default kernels."""
    monkeypatch.setattr(npu_module, "EMULATED_DEVICES", cann.options.count)
    return NpuDevice(parse("npu-emulated"))


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def found(
    device: NpuDevice, function: Callable[[Tensor], Tensor], x: Tensor, dtype: str = "float32"
) -> list[OperatorRow]:
    """The culprits of a function on the device."""
    return culprits(trace.check(Function(function), x, device, Arithmetic(dtype)))


def grouped(x: Tensor) -> Tensor:
    weight, bias = draw(64, seed=1).abs() + 0.5, draw(64, seed=2)
    return nn.functional.group_norm(x, 32, weight, bias)


def layered(x: Tensor) -> Tensor:
    weight, bias = draw(128, seed=1).abs() + 0.5, draw(128, seed=2)
    return nn.functional.layer_norm(x, (128,), weight, bias)


GROUPED = grouped, draw(4, 64, 7, 7) + 100, "float32"
LAYERED = layered, draw(8, 50, 128) + 10, "float16"
CONSTANT = (
    lambda x: nn.functional.group_norm(x, 8),
    torch.linspace(0.5, 300, 64).view(8, 8, 1, 1).repeat(1, 1, 14, 14),
    "float32",
)


@pytest.mark.parametrize("case", [GROUPED, LAYERED, CONSTANT], ids=["group", "layer", "constant"])
def test_the_default_kernels_compute_as_published(
    case: tuple[Callable[[Tensor], Tensor], Tensor, str], device: NpuDevice, cann: Emulator
) -> None:
    (row,) = found(device, *case)
    assert row.method is not None and row.method.agrees
    cann.set_kernels("aten")
    assert not found(device, *case)


@pytest.mark.parametrize(
    "mistake",
    ["group_norm_interleaved", "group_norm_affine", "group_norm_last_block"],
)
def test_a_mistake_in_group_norm_is_not_put_down_to_its_method(
    mistake: str, device: NpuDevice, cann: Emulator
) -> None:
    cann.set_kernels(f"cann+broken/{mistake}")
    (row,) = found(device, *GROUPED)
    assert row.method is not None and not row.method.agrees


@pytest.mark.parametrize(
    "mistake",
    ["layer_norm_first_item", "layer_norm_last_row", "layer_norm_bias_tail",
     "layer_norm_variance_tail", "layer_norm_unbiased"],
)  # fmt: skip
def test_a_mistake_in_layer_norm_is_not_put_down_to_its_method(
    mistake: str, device: NpuDevice, cann: Emulator
) -> None:
    cann.set_kernels(f"cann+broken/{mistake}")
    (row,) = found(device, *LAYERED)
    assert row.method is not None and not row.method.agrees


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_product_to_which_a_matrix_is_added_is_no_culprit(dtype: str, device: NpuDevice) -> None:
    matrix, right = draw(64, 64), draw(64, 64, seed=1)
    assert not found(device, lambda x: torch.addmm(matrix, x, right), draw(64, 64, seed=2), dtype)


@pytest.mark.parametrize("format_name", ["strict", "default", "float16", "bfloat16"])
def test_no_function_of_the_default_kernels_is_beyond_what_is_allowed(
    format_name: str, device: NpuDevice
) -> None:
    from harness.cases.formats import dtype_and_numerics
    from harness.execution.probes import functions

    dtype, numerics = dtype_and_numerics(format_name)
    device.apply_numerics(numerics)
    for name in functions.FUNCTIONS:
        seen = functions.traits(name, device.torch_device, getattr(torch, dtype))
        assert seen.of_allowed <= 1, name
    device.apply_numerics("strict")
