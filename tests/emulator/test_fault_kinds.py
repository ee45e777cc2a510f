"""Every kind of fault does the same in the emulator and in the hooks of a CPU model.

The kinds are listed in devices/fault_plan.py and acted out twice: in the emulator's C++ and in
execution/fault_hooks.py.  Here one operator runs under each kind on both.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.devices.emulator import Emulator
from harness.devices.fault_plan import KINDS, Fault, FaultPlan
from harness.devices.module_path import ModulePath
from harness.execution import fault_hooks
from harness.execution.fault_hooks import FaultHooks

Move = Callable[[Tensor], Tensor]


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


X, W, B = random(4, 32, 6, 6), random(24, 32, 3, 3), random(24)
A, M = random(4, 32), random(24, 32)
MEAN, VARIANCE = torch.linspace(-1, 1, 32), torch.linspace(0.5, 2, 32)
ONE, NUMBER = random(1, 1), torch.tensor(5.0)
WILD = torch.tensor([[1.0, math.inf], [-math.inf, math.nan], [-2.0, 3.0]])

# What runs an operator, on the device that the function moves its tensors to.
OPERATORS: dict[str, Callable[[Move], Any]] = {
    "Convolution": lambda to: F.conv2d(to(X), to(W), to(B)),
    "Addmm": lambda to: torch.addmm(to(B), to(A), to(M).T),
    "Mm": lambda to: to(A) @ to(M).T,
    "Mv": lambda to: to(A) @ to(M[0]),
    "Addmv": lambda to: torch.addmv(to(B[:4]), to(A), to(M[0])),
    "BatchMatMul": lambda to: torch.bmm(to(X[:, 0]), to(X[:, 1])),
    "Baddbmm": lambda to: torch.baddbmm(to(X[:, 2]), to(X[:, 0]), to(X[:, 1])),
    "BatchNorm": lambda to: F.batch_norm(to(X), to(MEAN), to(VARIANCE)),
    "Relu": lambda to: torch.relu(to(X.half())),
    "Neg": lambda to: torch.neg(to(WILD)),
    "LayerNorm": lambda to: F.layer_norm(to(X), (6, 6)),
    "Abs": lambda to: torch.abs(to(ONE)),
    "Sqrt": lambda to: torch.sqrt(to(NUMBER)),
    "ArgMax": lambda to: torch.argmax(to(A), 1),
    "MaxDim": lambda to: torch.max(to(A), 1),
}
ANY = ("Convolution", "Addmm", "Relu")
PRODUCTS = ("Convolution", "Addmm", "Mm", "Mv", "Addmv", "BatchMatMul", "Baddbmm")


@dataclass(frozen=True)
class Trial:
    """A kind with its other fields, and where it changes the result and where it does not."""

    kind: str
    acts: tuple[str, ...]
    idle: tuple[str, ...] = ()
    fields: dict[str, Any] = field(default_factory=dict)


INTEGERS = ("ArgMax",)
TRIALS = (
    Trial("scale_output", (*ANY, "LayerNorm", "Abs", "MaxDim"), ("Sqrt", *INTEGERS)),
    Trial("scale_output", (), ANY, {"batch_over": 4}),
    Trial("noise_output", (*ANY, "LayerNorm", "BatchMatMul"), ("Sqrt", *INTEGERS)),
    Trial("noise_output", ANY, (), {"magnitude": 0.3, "seed": 2**64 - 1}),
    Trial("zero_output", (*ANY, "Abs", "MaxDim"), ("Sqrt", *INTEGERS)),
    Trial("zero_channels", ANY, ("Mv", *INTEGERS)),
    Trial("zero_channels", ANY, (), {"magnitude": 2.5}),
    Trial("nan_output", (*ANY, "Abs"), INTEGERS),
    Trial("nan_output", (*ANY, "Abs"), (), {"index": 33}),
    Trial("inf_output", (*ANY, "Abs"), INTEGERS),
    Trial("inf_output", (*ANY, "Abs"), (), {"index": 10**6}),
    Trial("saturate", ("Neg",), ("Convolution", *INTEGERS)),
    Trial("duplicate_first_item", (*ANY, *INTEGERS, "MaxDim"), ("Abs", "Sqrt")),
    Trial("permute_batch", (*ANY, *INTEGERS, "MaxDim"), ("Abs", "Sqrt")),
    Trial("scale_weight", PRODUCTS, ("Relu", "BatchNorm")),
    Trial("scale_weight", PRODUCTS, (), {"magnitude": 0.5, "index": 10**6 + 1}),
    Trial("scale_weight", (), PRODUCTS, {"batch_over": 4}),
    Trial("swap_channels", ("Convolution",), ("Addmm", "Relu")),
    Trial("swap_channels", (), ("Convolution",), {"batch_over": 4}),
    Trial("drop_bias", ("Convolution", "Addmm", "Baddbmm"), ("Mm", "Addmv", "Relu")),
    Trial("drop_bias", (), ("Convolution", "Addmm", "Baddbmm"), {"batch_over": 4}),
    Trial("stale_mean", ("BatchNorm",), ("Convolution",)),
    Trial("stale_mean", (), ("BatchNorm",), {"batch_over": 4}),
)
# execution/fault_hooks.py says that the hooks do nothing for these.
NOT_HOOKED = {"bit_flip": ANY, "fp16_accumulate": ("Convolution", "Addmm")}
OF_THE_PROCESS = ("error_code", "out_of_memory", "slow", "hang", "abort")


def tensors(result: Any) -> tuple[Tensor, ...]:
    return tuple(t.cpu() for t in (result if isinstance(result, tuple) else (result,)))


def on_host(operator: str) -> tuple[Tensor, ...]:
    return tensors(OPERATORS[operator](lambda tensor: tensor.clone()))


def on_emulator(
    npu: Emulator, operator: str, kind: str, **fields: Any
) -> tuple[tuple[Tensor, ...], int]:
    """The results under a fault, and how often it had an effect."""

    def run() -> tuple[Tensor, ...]:
        return tensors(OPERATORS[operator](lambda tensor: tensor.npu()))

    # What torch_npu makes of an operator is its own choice: Matmul for Mm.
    npu.set_faults(None)
    npu.reset_counters()
    run()
    (name,) = npu.operator_counts()
    npu.set_faults(FaultPlan((Fault(kind, name, **fields),)))
    result = run()
    (effects,) = npu.fault_effects()
    return result, effects


def on_cpu(operator: str, kind: str, **fields: Any) -> tuple[tuple[Tensor, ...], int]:
    """The same by hooks."""
    with torch.no_grad(), FaultHooks(None) as counting:
        on_host(operator)
    (name,) = counting.counters.operators
    plan = FaultPlan((Fault(kind, name, **fields),)).to_json()
    with torch.no_grad(), FaultHooks(plan) as hooks:
        result = on_host(operator)
    (effects,) = hooks.counters.fault_effects
    return result, effects


def same(left: tuple[Tensor, ...], right: tuple[Tensor, ...]) -> bool:
    # A NaN stands where a fault or an infinity put it: it counts as equal to itself.
    return all(
        a.dtype == b.dtype and torch.equal(a.nan_to_num(12345), b.nan_to_num(12345))
        and torch.equal(a.isnan(), b.isnan())
        for a, b in zip(left, right, strict=True)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("trial", "operator"),
    [
        pytest.param(trial, operator, id=f"{trial.kind}{trial.fields or ''}-{operator}")
        for trial in TRIALS
        for operator in (*trial.acts, *trial.idle)
    ],
)
def test_the_emulator_and_the_hooks_damage_alike(
    npu: Emulator, trial: Trial, operator: str
) -> None:
    good = on_host(operator)
    device, device_effects = on_emulator(npu, operator, trial.kind, **trial.fields)
    host, host_effects = on_cpu(operator, trial.kind, **trial.fields)
    assert same(device, host)
    assert device_effects == host_effects
    assert (device_effects > 0) == (operator in trial.acts)
    assert same(device, good) == (operator in trial.idle)


def test_what_comes_and_goes_does_so_alike(npu: Emulator) -> None:
    plan = FaultPlan((Fault("zero_output", "Neg", first=3, every=2, probability=0.4, seed=7),))
    x = torch.ones(2)
    npu.set_faults(plan)
    there = [not torch.neg(x.npu()).cpu().any() for _ in range(60)]
    with torch.no_grad(), FaultHooks(plan.to_json()):
        here = [not torch.neg(x).any() for _ in range(60)]
    assert there == here
    assert 0 < sum(here) < 29  # some of the 29 that are due


@pytest.mark.parametrize("kind", NOT_HOOKED)
def test_what_is_not_hooked_acts_in_the_emulator_alone(npu: Emulator, kind: str) -> None:
    for operator in NOT_HOOKED[kind]:
        good = on_host(operator)
        device, device_effects = on_emulator(npu, operator, kind)
        host, host_effects = on_cpu(operator, kind)
        assert device_effects == 1 and not same(device, good)
        assert host_effects == 0 and same(host, good)


@pytest.mark.parametrize("kind", OF_THE_PROCESS)
def test_what_ends_or_delays_an_operator_is_not_hooked(kind: str) -> None:
    host, effects = on_cpu("Addmm", kind)
    assert effects == 0 and same(host, on_host("Addmm"))


def test_every_kind_is_held_to_both() -> None:
    tried = {trial.kind for trial in TRIALS if trial.acts}
    assert sorted((*tried, *NOT_HOOKED, *OF_THE_PROCESS, "waive_contract")) == sorted(KINDS)
    # execution/fault_hooks.py names those that it leaves out, and no other.
    words = re.findall(r"\w+", fault_hooks.__doc__ or "")
    assert [kind for kind in KINDS if kind in words] == list(NOT_HOOKED)


@pytest.mark.parametrize("module", ["stem", "blocks", "blocks.1", "block?.0", "*.1", "head", None])
def test_a_fault_of_a_module_strikes_alike(npu: Emulator, module: str | None) -> None:
    relus = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.ReLU())
    net = torch.nn.Sequential(OrderedDict(stem=torch.nn.ReLU(), blocks=relus)).eval()
    plan = FaultPlan((Fault("scale_output", "Relu", module, magnitude=3.0),))
    npu.set_faults(plan)
    with ModulePath(npu.set_module).watching(net):
        there = net(torch.ones(2).npu()).cpu()
    hooks = FaultHooks(plan.to_json())
    with torch.no_grad(), hooks, hooks.modules.watching(net):
        here = net(torch.ones(2))
    struck = {"stem": 1, "blocks": 2, "head": 0, None: 3}.get(module, 1)
    assert there.tolist() == here.tolist() == [3.0**struck] * 2
    assert npu.fault_effects() == list(hooks.counters.fault_effects) == [struck]
