"""Every fault kind shows its effect, at the operator and the call that the plan names."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.devices.emulator import Emulator
from harness.devices.fault_plan import KINDS, Fault, FaultPlan

X = torch.randn(4, 32, 6, 6, generator=torch.Generator().manual_seed(0))
W = torch.randn(24, 32, 3, 3, generator=torch.Generator().manual_seed(1))
B = torch.randn(24, generator=torch.Generator().manual_seed(2))
MEAN, VAR = torch.linspace(-1, 1, 32), torch.linspace(0.5, 2, 32)


def convolve(x: Tensor = X) -> Tensor:
    return F.conv2d(x.npu(), W.npu(), B.npu()).cpu()


def normalise() -> Tensor:
    return F.batch_norm(X.npu(), MEAN.npu(), VAR.npu()).cpu()


GOOD = F.conv2d(X, W, B)


def effect(npu: Emulator, fault: Fault, compute: Callable[[], Tensor] = convolve) -> Tensor:
    """The result under one fault; asserts that the fault had its effect once."""
    npu.set_faults(FaultPlan((fault,)))
    result = compute()
    assert npu.fault_effects() == [1]
    npu.set_faults(None)
    return result


def test_no_plan_no_effect(npu: Emulator) -> None:
    assert torch.equal(convolve(), GOOD)


def test_scale_output(npu: Emulator) -> None:
    assert torch.equal(effect(npu, Fault("scale_output", "Convolution")), GOOD * 1.01)


def test_noise_output(npu: Emulator) -> None:
    fault = Fault("noise_output", "Convolution", magnitude=0.05)
    noise = effect(npu, fault) - GOOD
    assert noise.std() / GOOD.std() == pytest.approx(0.05, rel=0.1)
    assert torch.equal(effect(npu, fault) - GOOD, noise)
    other = effect(npu, Fault("noise_output", "Convolution", magnitude=0.05, seed=1))
    assert not torch.equal(other - GOOD, noise)


def test_zero_output(npu: Emulator) -> None:
    assert not effect(npu, Fault("zero_output", "Convolution")).any()


def test_zero_channels(npu: Emulator) -> None:
    result = effect(npu, Fault("zero_channels", "Convolution"))
    assert torch.equal(result[:, :8], GOOD[:, :8]) and not result[:, 8:].any()


@pytest.mark.parametrize(
    ("kind", "test"), [("nan_output", torch.isnan), ("inf_output", torch.isinf)]
)
def test_one_bad_value(npu: Emulator, kind: str, test: Callable[[Tensor], Tensor]) -> None:
    bad = test(effect(npu, Fault(kind, "Convolution", index=777))).flatten()
    assert bad.nonzero().flatten().tolist() == [777]


def test_bit_flip(npu: Emulator) -> None:
    fault = Fault("bit_flip", "Convolution", bit=12, seed=3)
    changed = effect(npu, fault).view(torch.int32) ^ GOOD.view(torch.int32)
    assert (changed != 0).sum() == 1 and changed.max() == 1 << 12
    sign = effect(npu, Fault("bit_flip", "Convolution", bit=31, index=5))
    assert sign.flatten()[5] == -GOOD.flatten()[5]


def test_intermittent_bit_flip(npu: Emulator) -> None:
    npu.set_faults(FaultPlan((Fault("bit_flip", "Relu", probability=0.3, seed=1),)))
    x = torch.ones(10).npu()
    bad = [not torch.equal(torch.relu(x).cpu(), torch.ones(10)) for _ in range(60)]
    assert 8 <= sum(bad) <= 28 and npu.fault_effects() == [sum(bad)]
    npu.reset_counters()
    again = [not torch.equal(torch.relu(x).cpu(), torch.ones(10)) for _ in range(60)]
    assert again == bad


def test_any_kind_may_come_and_go(npu: Emulator) -> None:
    npu.set_faults(FaultPlan((Fault("zero_output", "Relu", probability=0.5),)))
    x = torch.ones(10).npu()
    zeros = [not torch.relu(x).cpu().any() for _ in range(60)]
    assert 15 <= sum(zeros) <= 45 and npu.fault_effects() == [sum(zeros)]


def test_a_rehearsal_does_not_count_calls_but_comes_and_goes(npu: Emulator) -> None:
    x = torch.ones(10).npu()
    npu.set_faults(FaultPlan((Fault("zero_output", "Relu", first=2, last=2),)))

    def zero() -> bool:
        return not torch.relu(x).cpu().any()

    assert not zero()
    with npu.rehearsal():
        assert [zero(), zero()] == [True, False]
    assert [zero(), zero()] == [True, False]
    npu.set_faults(FaultPlan((Fault("zero_output", "Relu", last=1, probability=0.5),)))
    rehearsed = []
    for _ in range(40):
        with npu.rehearsal():
            rehearsed.append(zero())
    assert 8 <= sum(rehearsed) <= 32


def test_saturate(npu: Emulator) -> None:
    x = torch.tensor([1.0, math.inf, -math.inf, math.nan]).half()
    result = effect(npu, Fault("saturate", "Relu"), lambda: torch.relu(x.npu()).cpu())
    assert result.tolist() == [1.0, 65504.0, 0.0, 0.0]


def test_duplicate_first_item(npu: Emulator) -> None:
    result = effect(npu, Fault("duplicate_first_item", "Convolution"))
    assert torch.equal(result[:3], GOOD[:3]) and torch.equal(result[3], GOOD[0])


def test_permute_batch(npu: Emulator) -> None:
    result = effect(npu, Fault("permute_batch", "Convolution"))
    assert torch.equal(result, GOOD.roll(1, 0)) and not torch.equal(result, GOOD)


@pytest.mark.parametrize("factor", [1.5, 0.5])
def test_scale_weight(npu: Emulator, factor: float) -> None:
    result = effect(npu, Fault("scale_weight", "Convolution", magnitude=factor))
    assert torch.equal(result, F.conv2d(X, W * factor, B))


def test_scale_one_element_of_a_weight(npu: Emulator) -> None:
    changed = W.clone()
    changed.view(-1)[100] *= 1.5
    result = effect(npu, Fault("scale_weight", "Convolution", index=100))
    assert torch.equal(result, F.conv2d(X, changed, B))


def test_scale_weight_of_a_linear_layer(npu: Emulator) -> None:
    x, w, b = X[:, :, 0, 0], W[:, :, 0, 0], B
    result = effect(
        npu, Fault("scale_weight", "Addmm"), lambda: F.linear(x.npu(), w.npu(), b.npu()).cpu()
    )
    assert torch.allclose(result, F.linear(x, w * 1.5, b), atol=1e-5)


def test_swap_channels(npu: Emulator) -> None:
    result = effect(npu, Fault("swap_channels", "Convolution"))
    assert torch.equal(result, F.conv2d(X.flip(1), W, B))


def test_drop_bias(npu: Emulator) -> None:
    assert torch.equal(effect(npu, Fault("drop_bias", "Convolution")), F.conv2d(X, W))


@pytest.mark.parametrize("operator", ["Convolution", "Addmm"])
def test_fp16_accumulate(npu: Emulator, operator: str) -> None:
    x, w = X[:, :, 0, 0].npu(), W[:, :, 0, 0].T.npu()
    if operator == "Convolution":
        result, good = effect(npu, Fault("fp16_accumulate", operator)), GOOD
    else:
        compute = lambda: torch.addmm(B.npu(), x, w).cpu()  # noqa: E731
        result, good = effect(npu, Fault("fp16_accumulate", operator), compute), compute()
    error = (result - good).abs().max() / good.abs().max()
    assert 2**-13 < error < 2**-8  # two partial sums, each rounded to 11 bits


def test_stale_mean(npu: Emulator) -> None:
    result = effect(npu, Fault("stale_mean", "BatchNorm"), normalise)
    assert torch.allclose(result, F.batch_norm(X, MEAN + 0.1 * VAR.sqrt(), VAR), atol=1e-6)
    assert not torch.allclose(result, F.batch_norm(X, MEAN, VAR), atol=1e-2)


def test_batch_over(npu: Emulator) -> None:
    npu.set_faults(
        FaultPlan(
            (
                Fault("zero_output", "Convolution", batch_over=2),
                Fault("scale_weight", "Convolution", batch_over=2),
            )
        )
    )
    assert torch.equal(convolve(X[:2]), F.conv2d(X[:2], W, B))
    assert npu.fault_effects() == [0, 0]
    assert not convolve(X[:3]).any()
    assert npu.fault_effects() == [1, 1]


@pytest.mark.parametrize(
    ("occurrence", "calls"),
    [
        ({}, [1, 2, 3, 4, 5, 6, 7]),
        ({"first": 3, "last": 3}, [3]),
        ({"first": 2, "last": 4}, [2, 3, 4]),
        ({"first": 2, "every": 3}, [2, 5]),
        ({"first": 6}, [6, 7]),
    ],
)
def test_occurrence(npu: Emulator, occurrence: dict[str, int], calls: list[int]) -> None:
    x = torch.ones(2).npu()
    npu.set_faults(FaultPlan((Fault("zero_output", "Relu", **occurrence),)))  # type: ignore[arg-type]
    hit = []
    for call in range(1, 8):
        torch.sigmoid(x)  # other operators do not count
        if not torch.relu(x).cpu().any():
            hit.append(call)
    assert hit == calls


def test_any_operator(npu: Emulator) -> None:
    x = torch.ones(2).npu()
    npu.set_faults(FaultPlan((Fault("scale_output", "*", magnitude=2.0, first=2, last=2),)))
    assert torch.relu(x).cpu().tolist() == [1, 1]
    assert torch.sqrt(x).cpu().tolist() == [2, 2]


def test_plan_replaced_and_removed(npu: Emulator) -> None:
    x = torch.ones(2).npu()
    plan = FaultPlan((Fault("zero_output", "Relu"),))
    npu.set_faults(plan)
    assert npu.faults == plan
    assert torch.relu(x).cpu().tolist() == [0, 0]
    npu.set_faults(FaultPlan((Fault("scale_output", "Relu", magnitude=3.0),)))
    assert torch.relu(x).cpu().tolist() == [3, 3]
    npu.set_faults(None)
    assert torch.relu(x).cpu().tolist() == [1, 1]
    assert npu.fault_effects() == []


def test_integer_outputs_are_left_alone(npu: Emulator) -> None:
    npu.set_faults(FaultPlan((Fault("zero_output", "ArgMax"),)))
    assert X[:, 0, 0, 0].npu().argmax().item() == X[:, 0, 0, 0].argmax().item()
    assert npu.fault_effects() == [0]


def test_slow(npu: Emulator) -> None:
    import time

    start = time.perf_counter()
    effect(npu, Fault("slow", "Relu", magnitude=0.3), lambda: torch.relu(torch.ones(1).npu()).cpu())
    assert time.perf_counter() - start >= 0.3


def test_error_code_has_torch_npus_text(run_script) -> None:  # type: ignore[no-untyped-def]
    script = run_script(
        """
        x = torch.ones(2).npu()
        npu.set_faults(FaultPlan((Fault("error_code", "Relu", code=507015),)))
        try:
            answer(torch.relu(x).cpu().tolist())
        except RuntimeError as error:
            answer(str(error))
        """
    )
    assert "507015" in script.answer and "Relu" in script.answer
    assert "aicore execution is abnormal" in script.answer


def test_out_of_memory_of_an_allocation(run_script) -> None:  # type: ignore[no-untyped-def]
    script = run_script(
        """
        torch.ones(2).npu()
        npu.set_faults(FaultPlan((Fault("out_of_memory", "Malloc"),)))
        try:
            torch.empty(300 << 20, dtype=torch.uint8, device="npu")
            answer("no error")
        except torch.OutOfMemoryError as error:
            answer("torch.OutOfMemoryError")
        """
    )
    assert script.answer == "torch.OutOfMemoryError"


def test_abort(run_script) -> None:  # type: ignore[no-untyped-def]
    script = run_script(
        """
        x = torch.ones(2).npu()
        npu.set_faults(FaultPlan((Fault("abort", "Relu"),)))
        torch.relu(x).cpu()
        answer("alive")
        """
    )
    assert script.code == -6 and "planned abort in operator Relu" in script.text
    assert script.answers == []


def test_hang(run_script) -> None:  # type: ignore[no-untyped-def]
    import subprocess

    with pytest.raises(subprocess.TimeoutExpired) as caught:
        run_script(
            """
            x = torch.ones(2).npu()
            npu.set_faults(FaultPlan((Fault("hang", "Relu"),)))
            answer("before")
            torch.relu(x).cpu()
            answer("after")
            """,
            timeout=25,
        )
    output = caught.value.stdout or b""
    assert b"before" in output and b"after" not in output


def test_every_kind_has_a_test() -> None:
    from pathlib import Path

    text = Path(__file__).read_text()
    text += Path(__file__).with_name("test_contract.py").read_text()
    assert [kind for kind in KINDS if f'"{kind}"' not in text] == []
