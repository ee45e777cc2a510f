import pytest
import torch

from harness.cases.models.calibration import measuring
from harness.cases.models.operator_ranges import OperatorRange, linear_notes
from harness.cases.models.range_meter import RangeMeter


def ranges_of(run):
    meter = RangeMeter()
    with torch.no_grad(), measuring(meter):
        run()
    return {one.operator: one for one in meter.found()}


def test_inputs_of_a_function_over_all_its_calls():
    x = torch.tensor([3.0, -4.0, 8.0, 0.0])
    found = ranges_of(lambda: [torch.nn.functional.gelu(x), torch.nn.functional.gelu(-x)])["gelu"]
    assert found.calls == 2 and found.largest == 8.0 and found.beyond == 0.25
    assert found.rms == pytest.approx((89 / 4) ** 0.5) and found.spread is None


def test_in_place_functions_and_half_precision_count_too():
    x = torch.full((4,), 200.0, dtype=torch.float16)  # its square is beyond float16
    found = ranges_of(lambda: torch.nn.functional.silu(x, inplace=True))["silu"]
    assert found.rms == pytest.approx(200.0) and found.beyond == 1.0


def test_scores_spread_over_the_keys_without_masked_ones():
    scores = torch.tensor([[1.0, 3.0, -torch.inf], [10.0, 14.0, -100.0]])
    found = ranges_of(lambda: scores.softmax(-1))["softmax"]
    # Within a row: standard deviations 1 and 2.
    assert found.spread == pytest.approx((2.5) ** 0.5)


@pytest.mark.parametrize("scale", [None, 0.5])
def test_fused_attention_has_the_scores_of_the_same_product(scale):
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, 10, 16, generator=generator) for _ in range(3))
    factor = 0.25 if scale is None else scale
    plain = ranges_of(lambda: (query @ key.mT * factor).softmax(-1))["softmax"]
    fused = ranges_of(
        lambda: torch.nn.functional.scaled_dot_product_attention(query, key, value, scale=scale)
    )["softmax"]
    assert fused.spread == pytest.approx(plain.spread, rel=1e-5)
    assert fused.rms == pytest.approx(plain.rms, rel=1e-5)


def test_empty_tensors_are_no_calls():
    assert ranges_of(lambda: torch.nn.functional.gelu(torch.empty(0, 4))) == {}


def test_a_kind_that_saw_only_its_linear_range_is_named():
    wide = OperatorRange("gelu", 12, rms=1.5, largest=7.0, beyond=1e-4)
    small = OperatorRange("silu", 12, rms=0.3, largest=1.8, beyond=0.0)
    flat = OperatorRange("softmax", 12, rms=3.0, largest=4.0, beyond=0.0, spread=0.05)
    assert linear_notes([wide]) == []
    (note,) = linear_notes([wide, small, flat])
    assert "silu (inputs with an rms of 0.3)" in note
    assert "softmax (scores with a spread of 0.05)" in note and "gelu" not in note
