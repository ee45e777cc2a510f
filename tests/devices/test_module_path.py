import pytest
import torch
from torch import nn

from harness.devices.fault_plan import Fault, FaultPlan
from harness.devices.module_path import ModulePath, within
from harness.execution.fault_hooks import FaultHooks


@pytest.mark.parametrize(
    ("path", "pattern", "inside"),
    [
        ("blocks.3.attn.proj", "blocks.3.attn.proj", True),
        ("blocks.3.attn.proj", "blocks.3", True),
        ("blocks.3.attn.proj", "blocks.*.attn", True),
        ("blocks.3.attn.proj", "*.proj", True),
        ("blocks.3.attn.proj", "blocks.[0-2]", False),
        ("blocks.30.attn", "blocks.3", False),
        ("blocks.3", "blocks.3.attn", False),
        ("", "*", False),
    ],
)
def test_a_module_is_within_itself_and_what_holds_it(path, pattern, inside):
    assert within(path, pattern) is inside


class Twice(nn.Module):
    """Calls its block twice, with an operator of its own between."""

    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(nn.ReLU())

    def forward(self, x):
        return self.block(torch.neg(self.block(x)))


def test_every_change_is_told_and_a_second_call_has_its_number():
    told, seen = [], []
    path = ModulePath(told.append)
    net = Twice()
    net.block[0].register_forward_hook(lambda *_: seen.append((path.path, path.current)))
    with path.watching(net):
        net(torch.ones(1))
    assert told == ["block", "block.0", "block", "", "block", "block.0", "block", "", ""]
    assert seen == [("block.0", "block.0"), ("block.0", "block.0#2")]
    assert path.current == "(model)"


def test_a_pass_that_fails_leaves_no_module_behind():
    path = ModulePath()
    net = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(RuntimeError), path.watching(net):
        net(torch.ones(1, 3))
    assert path.path == ""


@pytest.mark.parametrize(
    ("module", "first", "struck"),
    [("block", 1, [True, True]), ("block.0", 2, [False, True]), ("other", 1, [False, False])],
)
def test_hooks_strike_in_the_module_that_a_fault_names(module, first, struck):
    fault = Fault("scale_output", "Relu", module, first=first, magnitude=3.0)
    hooks = FaultHooks(FaultPlan((fault,)).to_json())
    net, found = Twice(), []
    net.block.register_forward_hook(lambda module, args, output: found.append(output.item()))
    net.block[0].register_forward_pre_hook(lambda module, args: torch.ones_like(args[0]))
    with torch.no_grad(), hooks, hooks.modules.watching(net):
        net(torch.ones(1))
    assert [value == 3.0 for value in found] == struck
    assert hooks.counters.fault_effects == (sum(struck),)
