import pytest
import torch
from torch import nn

from harness.cases.samples import Samples
from harness.execution import autocast, imitation, shares
from harness.judgement.arithmetic import Arithmetic, AutocastPolicy, Factors


def rounding(tensor, dtype=torch.bfloat16):
    return tensor.to(dtype).float() - tensor


def by_name(found):
    return {point.name: point for point in found.points}


def test_of_one_product_every_contribution_is_exact():
    layer = nn.Linear(5, 4, bias=False)
    weight, x = layer.weight.detach().clone(), torch.randn(1, 5)
    found = shares.measure(layer, Samples.of(x), Arithmetic("bfloat16"))
    points = by_name(found)
    # One image: the signs of a direction square to one, and leave no chance.
    stored, kept = x.bfloat16().float(), weight.bfloat16().float()
    of_weight = (rounding(weight).square() @ stored[0].square()).mean()
    of_result = rounding(stored @ kept.t()).square().mean()
    torch.testing.assert_close(points["weight"].squares[0], of_weight.item(), rtol=1e-4, atol=0)
    torch.testing.assert_close(points["aten::mm"].squares[0], of_result.item(), rtol=1e-4, atol=0)
    assert [point.what for point in found.points] == ["input", "weight", "result"]


def test_roundings_that_cancel_are_seen_to_cancel():
    layer = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.001, -1.001]]))
    x = torch.ones(4, 2)  # stored exactly, as 0 is, which it gives
    found = shares.measure(layer, Samples.of(x), Arithmetic("bfloat16"))
    assert found.squares.sum() > 0 and found.rmse("output") == 0


def test_roundings_that_all_images_share_add_up():
    layer = nn.Linear(64, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(1.001)
    x = torch.ones(4, 64)
    error = 64 * rounding(torch.tensor(1.001)).item()
    found = shares.measure(layer, Samples.of(x), Arithmetic("bfloat16"))
    result = 64 * (1.001 + rounding(torch.tensor(1.001)).item())
    error += rounding(torch.tensor(result)).item()
    torch.testing.assert_close(found.rmse("output"), abs(error), rtol=1e-4, atol=0)


class Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(
            *(nn.Sequential(nn.Linear(64, 64), nn.GELU()) for _ in range(4))
        )
        self.head = nn.Linear(64, 200)

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def test_contributions_add_up_to_the_error_that_is_observed():
    torch.manual_seed(1)
    model, x = Blocks().eval(), torch.randn(16, 64)
    with torch.no_grad():
        exact = model.double()(x.double())
    model.float()
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    for arithmetic in (
        Arithmetic("bfloat16"),
        Arithmetic("float16"),
        Arithmetic(short_matmul=Factors(11)),
    ):
        model.load_state_dict(kept)
        found = shares.measure(model, Samples.of(x), arithmetic)
        model.load_state_dict(kept)
        imitation.round_weights(model, arithmetic)
        store = imitation.storage_dtype(arithmetic)
        with torch.no_grad(), imitation.Imitation(arithmetic):
            got = model(x.to(store).float())
        observed = (got.double() - exact)[: shares.IMAGES].square().mean().sqrt().item()
        assert 0.95 < found.rmse("output") / observed < 1.05
        parts = found.by(lambda point: point.kind, "output")
        torch.testing.assert_close(sum(part.share for part in parts), 1.0, rtol=1e-9, atol=0)


def test_under_autocast_casts_and_results_are_rounded():
    torch.manual_seed(1)
    model, x = Blocks().eval(), torch.randn(8, 64)
    policy = AutocastPolicy("bfloat16", short=("linear",), single=("gelu",))
    with torch.no_grad():
        exact = model(x)
        with autocast.imitated(policy):
            got = model(x)
    observed = (got.float() - exact).square().mean().sqrt().item()
    found = shares.measure(model, Samples.of(x), Arithmetic(autocast=policy))
    assert 0.95 < found.rmse("output") / observed < 1.05
    rounded = {point.name for point in found.points}
    assert "blocks.0.0.weight" in rounded and "aten::addmm" in rounded
    assert "aten::gelu" not in rounded  # computed in float32, and its sum with x as well
    assert "aten::add.Tensor" not in rounded


def test_a_product_with_shortened_factors_needs_its_own_module_alone():
    arithmetic = Arithmetic(short_matmul=Factors(11))
    found = shares.measure(Blocks().eval(), Samples.of(torch.randn(2, 64)), arithmetic)
    assert {point.modules for point in found.points} == {
        frozenset({path}) for path in ("head", *(f"blocks.{i}.0" for i in range(4)))}  # fmt: skip


def test_what_is_promoted_has_no_part_in_it():
    x = torch.randn(2, 64)
    plan = Arithmetic("bfloat16", promoted=("blocks",))
    found = shares.measure(Blocks().eval(), Samples.of(x), plan)
    assert {point.module for point in found.points} <= {"", "head", "blocks.3.1", "blocks.2.1",
                                                        "blocks.1.1", "blocks.0.1"}  # fmt: skip
    whole = shares.measure(Blocks().eval(), Samples.of(x), Arithmetic("bfloat16"))
    assert 0 < found.rmse("output") < whole.rmse("output")


def test_too_large_a_model_is_refused_and_a_large_one_has_few_images(monkeypatch):
    model, x = Blocks().eval(), Samples.of(torch.randn(8, 64))
    with pytest.raises(ValueError, match="more than 0.01 million weights"):
        shares.measure(model, x, Arithmetic("bfloat16"), most_weights=1e4)
    assert shares.measure(model, x, Arithmetic("bfloat16")).images == 8
    monkeypatch.setattr(shares, "LARGE_SHARED", 1e4)
    assert shares.measure(Blocks().eval(), x, Arithmetic("bfloat16")).images == 2


def test_a_number_needs_its_producer_and_its_consumers():
    found = shares.measure(Blocks().eval(), Samples.of(torch.randn(2, 64)), Arithmetic("bfloat16"))
    points = {(point.name, point.module): point for point in found.points}
    assert points["aten::addmm", "blocks.1.0"].modules == {"blocks.1.0", "blocks.1.1"}
    assert points["aten::gelu", "blocks.1.1"].modules == {"blocks.1.1", ""}  # added by the model
    assert points["aten::addmm", "head"].modules == {"head", ""}  # leaves the model
    assert points["head.weight", "head"].modules == {"head"}
    assert found.order[:2] == ("blocks.0.0", "blocks.0.1")


def test_numbers_beyond_the_range_are_counted_and_go_on():
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8)).eval()
    with torch.no_grad():
        model[0].weight.mul_(1e6)
    found = shares.measure(model, Samples.of(torch.randn(2, 8)), Arithmetic("float16"))
    beyond = {point.name: point.beyond for point in found.points if point.beyond}
    assert beyond["0.weight"] > 0 and beyond["aten::addmm"] > 0
    assert "aten::native_layer_norm" not in beyond


def test_writing_in_place_belongs_to_the_operator_that_writes():
    class Scaled(nn.Module):
        def forward(self, x):
            y = x * 3.0
            return torch.nn.functional.silu(y, inplace=True)

    found = shares.measure(Scaled(), Samples.of(torch.randn(1, 50)), Arithmetic("bfloat16"))
    points = by_name(found)
    assert points["aten::silu_"].squares[0] > 0 and points["aten::mul.Tensor"].squares[0] > 0
