"""The CPU's own policy, whose content PyTorch documents, measured and imitated."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch import nn

from harness.execution import autocast
from harness.judgement.arithmetic import Arithmetic, AutocastPolicy, declared, storage

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def policy() -> AutocastPolicy:
    return autocast.measure(CPU, "bfloat16")


def test_the_measured_policy_is_the_documented_one(policy):
    # https://docs.pytorch.org/docs/stable/amp.html#cpu-op-specific-behavior
    short = {"conv1d", "conv2d", "bmm", "mm", "linalg_vecdot", "baddbmm", "addmm", "addbmm",
             "linear", "matmul", "conv_tbc", "scaled_dot_product_attention"}  # fmt: skip
    single = {"avg_pool3d", "binary_cross_entropy", "grid_sampler", "polar", "prod", "quantile",
              "nanquantile", "stft", "cdist", "trace", "view_as_complex", "cholesky", "pinverse",
              "mse_loss", "cosine_embedding_loss"}  # fmt: skip
    assert short <= set(policy.short) and not short & {*policy.single, *policy.widest}
    assert single <= set(policy.single)
    assert {"stack", "cat", "index_copy"} <= set(policy.widest)


def test_every_registered_operator_is_in_one_part(policy):
    parts = [*policy.short, *policy.single, *policy.widest]
    assert len(parts) == len(set(parts)) and set(parts) <= set(autocast._registered("AutocastCPU"))
    assert len(parts) >= 0.95 * len(autocast._registered("AutocastCPU"))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = torch.relu_(self.norm(self.stem(x)))
        x = self.block(torch.cat([x.flatten(2).mT, x.flatten(2).mT.float()], 1))
        return self.head(x.mean(1)).softmax(-1)


def dtypes_of(net: nn.Module, x: torch.Tensor) -> tuple[list[torch.dtype], torch.Tensor]:
    found: list[torch.dtype] = []
    handles = [
        part.register_forward_hook(lambda *all: found.append(all[-1].dtype))
        for part in (net.stem, net.norm, net.block, net.head)
    ]
    with torch.no_grad():
        result = net(x)
    for handle in handles:
        handle.remove()
    return found, result


def test_the_imitation_casts_where_autocast_does(policy):
    net, x = Net().eval(), torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        wanted, result = dtypes_of(net, x)
    with autocast.imitated(policy):
        got, imitated = dtypes_of(net, x)
    assert got == wanted and torch.bfloat16 in wanted and torch.float32 in wanted
    assert imitated.dtype == result.dtype
    # bfloat16 keeps 8 bits; the probabilities are at most 1.
    assert (imitated.float() - result.float()).abs().max() < 2**-7
    exact = net(x)
    assert not torch.equal(imitated.float(), exact.detach())


def test_another_policy_holds_inside_and_the_cpus_own_afterwards(policy):
    x = torch.randn(2, 4, dtype=torch.bfloat16)
    # A linear layer is taken apart where no policy knows it whole, and its parts none knows stay.
    other = dataclasses.replace(
        policy, single=(*policy.single, "softmax.int"), short=("bmm",), widest=()
    )

    def seen() -> list[torch.dtype]:
        w = torch.randn(3, 4)
        return [torch.softmax(x, -1).dtype, nn.functional.linear(x.float(), w).dtype,
                torch.bmm(x.float()[None], w.T[None]).dtype]  # fmt: skip

    with torch.autocast("cpu", dtype=torch.bfloat16):
        own = seen()
    with autocast.imitated(other):
        assert seen() == [torch.float32, torch.float32, torch.bfloat16]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert seen() == own == [torch.bfloat16] * 3


def test_the_policy_goes_by_way_of_the_records_numerics_into_the_arithmetic(policy):
    found = declared("autocast-bfloat16", policy.settings())
    assert found == Arithmetic(autocast=policy) and not found.full and not found.exact
    assert str(found) == "float32 with autocast to bfloat16" and found.dtype == "float32"
    stored = json.loads(json.dumps(dataclasses.asdict(found)))
    assert Arithmetic.of_json(stored) == found
    assert (storage("autocast-float16"), storage("float16")) == ("float32", "float16")
