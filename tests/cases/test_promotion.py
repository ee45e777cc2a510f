import copy
import dataclasses

import pytest
import torch
from torch import nn

from harness.cases.models.promotion import promote
from harness.execution.cpu_variants import CpuVariant, VariantCpu
from harness.judgement.arithmetic import Arithmetic, Factors


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(16, 32)
        self.norm = nn.LayerNorm(32)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(32, 8)

    def forward(self, x):
        return self.head(self.act(self.norm(self.stem(x))))


def dtypes(model):
    return {name: value.dtype for name, value in model.state_dict().items()}


def seen(model, x):
    """Dtypes that each module is given and gives."""
    found = {}
    for path, module in model.named_modules():
        module.register_forward_hook(
            lambda module, args, out, path=path: found.update({path: (args[0].dtype, out.dtype)}),
            prepend=True,  # before the cast back
        )
    with torch.no_grad():
        model(x)
    return found


def test_named_modules_compute_in_float32_and_the_others_do_not():
    model = promote(Net().eval(), torch.bfloat16, ["norm", "head"])
    short, single = torch.bfloat16, torch.float32
    assert dtypes(model)["stem.weight"] is short and dtypes(model)["norm.weight"] is single
    found = seen(model, torch.randn(2, 16).bfloat16())
    assert found["stem"] == (short, short) and found["act"] == (short, short)
    assert found["norm"] == (single, single) and found["head"] == (single, single)
    assert model(torch.randn(2, 16).bfloat16()).dtype is short


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_between_two_of_them_nothing_is_rounded_and_nothing_overflows(mode):
    model = Net().eval()
    with torch.no_grad():
        model.stem.weight.mul_(1e6)
    exact = copy.deepcopy(model)
    promote(model, torch.float16, ["stem", "norm"])
    x = torch.randn(3, 16).half()
    got = []
    model.norm.register_forward_hook(lambda *given: got.append(given[2].clone()))
    with mode():
        model(x)
        expected = exact.norm(exact.stem(x.float()))
    assert torch.equal(got[0], expected.half())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_what_was_written_to_in_between_is_taken_as_it_is_now(mode):
    class Writes(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Identity(), nn.Identity()

        def forward(self, x):
            return self.two(self.one(x).mul_(2))

    model = promote(Writes().eval(), torch.float16, ["one", "two"])
    with mode():
        assert torch.equal(model(torch.ones(3).half()), torch.full((3,), 2.0).half())


def test_the_imitation_of_a_plan_is_the_plan():
    torch.manual_seed(0)
    model, x = Net().eval(), torch.randn(64, 16)
    for promoted in ((), ("norm",), ("stem", "norm"), ("stem", "norm", "act", "head")):
        real = promote(copy.deepcopy(model), torch.bfloat16, promoted)
        device = VariantCpu(CpuVariant(imitate=Arithmetic("bfloat16", promoted=promoted)))
        stand_in = device.place(copy.deepcopy(model), torch.float32)
        with torch.no_grad():
            expected = real(x.bfloat16()).float()
            with device.around_forward():
                got = stand_in(device.place_batch(x, torch.float32))
        differing = (got != expected).float().mean().item()
        assert differing < 0.02, promoted  # sums in another order may round otherwise


def test_a_pass_that_fails_leaves_the_imitation_rounding():
    device = VariantCpu(CpuVariant(imitate=Arithmetic("bfloat16", promoted=("head",))))
    model = device.place(Net().eval(), torch.float32)
    with torch.no_grad(), device.around_forward():
        with pytest.raises(RuntimeError):
            model.head(torch.zeros(2, 5))
        got = torch.ones(3) / 3
    assert torch.equal(got, got.bfloat16().float())


class Switch:
    """One of torch_npu's."""

    def __init__(self, allowed):
        self.allow_hf32 = allowed


def test_without_torch_npu_a_plan_of_float32_changes_nothing(monkeypatch):
    monkeypatch.delattr(torch, "npu", raising=False)
    model, x = Net().eval(), torch.randn(2, 16)
    expected = model(x)
    assert torch.equal(promote(model, torch.float32, ["stem"])(x), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hf32_is_off_while_a_named_module_runs_and_then_as_before(monkeypatch, dtype):
    class Npu:
        conv, matmul = Switch(True), Switch(False)

    monkeypatch.setattr(torch, "npu", Npu, raising=False)
    model = promote(Net().eval(), dtype, ["norm", "head"])
    found = {}
    for path, module in model.named_children():
        module.register_forward_hook(
            lambda module, args, out, path=path: found.update(
                {path: (Npu.conv.allow_hf32, Npu.matmul.allow_hf32)}
            ),
            prepend=True,
        )
    model(torch.randn(2, 16, dtype=dtype))
    assert found == {"stem": (True, False), "norm": (False, False), "act": (True, False),
                     "head": (False, False)}  # fmt: skip
    with pytest.raises(RuntimeError, match="shape"):
        model.head(torch.randn(2, 5, dtype=dtype))
    assert Npu.conv.allow_hf32 and not Npu.matmul.allow_hf32


def test_the_imitation_of_a_plan_without_hf32_shortens_no_factors_in_it():
    torch.manual_seed(0)
    model, x = Net().eval(), torch.randn(4, 16)
    short = Arithmetic(short_matmul=Factors(11))

    def run(arithmetic):
        device = VariantCpu(CpuVariant(imitate=arithmetic))
        placed = device.place(copy.deepcopy(model), torch.float32)
        with torch.no_grad(), device.around_forward():
            return placed(x)

    exact = run(Arithmetic())
    assert not torch.equal(run(short), exact)
    assert torch.equal(run(dataclasses.replace(short, promoted=("stem", "head"))), exact)
    half = run(dataclasses.replace(short, promoted=("stem",)))
    assert not torch.equal(half, exact) and not torch.equal(half, run(short))
