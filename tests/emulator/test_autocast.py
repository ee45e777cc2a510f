"""torch_npu's own policy of casts, and its imitation on the CPU: the same dtypes everywhere."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness.devices.dispatcher import has_kernel
from harness.execution import autocast

pytestmark = pytest.mark.usefixtures("npu")


class Net(nn.Module):
    """Operators of every part of the policy, and of none."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.to_qkv = nn.Linear(8, 24)
        self.group, self.act, self.head = nn.GroupNorm(2, 8), nn.PReLU(), nn.Linear(8, 5)

    def forward(self, x):
        seen = []

        def note(tensor):
            seen.append((tensor.dtype, tuple(tensor.shape)))
            return tensor

        x = note(torch.relu_(note(self.norm(note(self.stem(x))))))
        x = note(self.group(x)).flatten(2).mT
        q, k, v = note(self.to_qkv(x)).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        x = note(nn.functional.scaled_dot_product_attention(q, k, v)).mT.flatten(1, 2).mT
        x = note(torch.addcmul(x, x.half(), x.float()))
        x = note(self.act(note(x.sum(1)[:, :8]))) ** 2
        x = note(self.head(note(x)))
        note(torch.softmax(x, -1))
        note(torch.exp(x))
        return seen, note(x.mean(-1))


def test_every_registered_operator_has_a_part():
    policy = autocast.measure(torch.device("npu", 0), "float16")
    parts = {*policy.short, *policy.single, *policy.widest}
    assert {"linear", "conv2d", "matmul", "prelu", "scaled_dot_product_attention"} <= {
        *policy.short
    }
    assert {"layer_norm", "group_norm", "softmax.int", "exp", "sum"} <= {*policy.single}
    assert {"addcmul", "cross"} <= {*policy.widest}
    registered = {name for name in torch._C._dispatch_get_all_op_names()
                  if has_kernel(name, "AutocastPrivateUse1")}  # fmt: skip
    # Refused under autocast, by torch_npu as by every other.
    assert {f"aten::{name}" for name in parts} == registered - {"aten::binary_cross_entropy"}


def test_the_cpu_has_the_dtypes_of_the_device_at_every_step():
    net = Net().eval()
    x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    policy = autocast.measure(torch.device("npu", 0), "float16")
    with torch.no_grad(), autocast.imitated(policy):
        ours, result = net(x)
    with torch.no_grad(), torch.autocast("npu", dtype=torch.float16):
        theirs, device = net.npu()(x.npu())
    assert ours == theirs
    assert {dtype for dtype, _ in ours} == {torch.float16, torch.float32}
    torch.testing.assert_close(device.cpu(), result, rtol=2e-3, atol=2e-3)
