"""The pass that sets random weights, on modules small enough to know what is right."""

import math

import pytest
import torch
from torch import nn

from harness.cases.models import calibration
from harness.cases.models.calibration import Calibration
from harness.cases.models.origins import measured


def calibrated(model, x, classifiers=None, passes=(True, False)):
    model.double().eval()
    setting = Calibration(model, 0, classifiers or {})
    with torch.no_grad():
        for tuning in passes:
            setting.begin(tuning=tuning)
            with setting:
                model(measured(x))
            if tuning:
                setting.apply()
    return setting


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rms(x):
    return float(x.square().mean().sqrt())


def test_a_layer_gives_what_is_aimed_at_whatever_it_gets():
    model = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 64), nn.Tanh())
    with torch.no_grad():
        for index in (0, 2):  # biases are drawn with this deviation
            model[index].bias.copy_(0.2 * drawn(64, seed=index))
    calibrated(model, 50.0 * drawn(400, 32) + 7.0)
    x = (50.0 * drawn(400, 32) + 7.0).double()
    with torch.no_grad():
        for index in (0, 2):
            x = model[index](x)
            assert rms(x) == pytest.approx(calibration.TARGET_RMS, rel=0.15)
            # Channels lie to both sides of zero.
            assert float(x.mean(0).std()) == pytest.approx(0.6 * 1.5, rel=0.3)
            x = model[index + 1](x)


def test_a_gate_is_mostly_open():
    model = nn.Sequential(nn.Linear(32, 64), nn.Sigmoid())
    calibrated(model, drawn(400, 32))
    with torch.no_grad():
        scores = model[0](drawn(400, 32).double())
    assert float(scores.mean()) == pytest.approx(calibration.GATE_OFFSET, abs=0.1)
    assert float(scores.std(0).mean()) == pytest.approx(calibration.GATE_RMS, rel=0.1)


def test_batchnorm_gets_the_statistics_of_its_input():
    model = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm2d(3))
    scales = torch.tensor([1.0, 2.0, 4.0]).view(1, 3, 1, 1)
    x = drawn(64, 3, 4, 4) * scales + 5.0
    calibrated(model, x)
    mean, variance = x.double().mean((0, 2, 3)), x.double().var((0, 2, 3), correction=0)
    # Dropout stays off, else they would be far away; rounded to 2^-6 and moved by 2^-8 at most.
    assert torch.all((model[1].running_mean - mean).abs() <= 2**-6 * variance.sqrt())
    wanted = variance + calibration.SHRINK * (variance.mean() - variance)
    torch.testing.assert_close(model[1].running_var, wanted, rtol=0.03, atol=0.0)


class Attention(nn.Module):
    """Scores by one product for query, key and value; `fused`: in one function."""

    def __init__(self, fused, bias=0.0):
        super().__init__()
        self.qkv = nn.Linear(64, 3 * 64)
        self.table = nn.Parameter(bias * drawn(20, 20, seed=5))
        self.fused = fused

    def forward(self, x):
        q, k, v = self.qkv(x).reshape(len(x), -1, 3, 4, 16).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            found = nn.functional.scaled_dot_product_attention(q, k, v)
        else:
            self.scores = (q * 16**-0.5) @ k.transpose(-2, -1) + self.table
            found = self.scores.softmax(dim=-1) @ v
        return found


@pytest.mark.parametrize("size", [1.0, 1e3])
@pytest.mark.parametrize("fused", [False, True])
def test_scores_of_attention_get_their_spread(fused, size):
    model = Attention(fused, bias=0.0 if fused else 0.1)
    setting = calibrated(model, size * drawn(8, 20, 64))
    assert setting.tuned
    model.fused = False
    with torch.no_grad():
        model(size * drawn(8, 20, 64).double())
    spread = float(model.scores.var(-1, correction=0).mean().sqrt())
    # The offsets of the last pass are another's than those that the gain was found with.
    assert spread == pytest.approx(calibration.LOGIT_SPREAD, rel=0.1)


@pytest.mark.parametrize("batchnorm", [False, True])
def test_no_row_of_scores_is_sharper_than_allowed(batchnorm):
    class Sized(nn.Module):
        def __init__(self):
            super().__init__()
            self.qk = nn.Linear(16, 32, bias=False)
            self.norm = nn.BatchNorm1d(32) if batchnorm else nn.Identity()

        def forward(self, x):
            q, k = self.norm(self.qk(x).flatten(0, 1)).view(*x.shape[:2], 32).chunk(2, -1)
            self.scores = q @ k.mT / 4
            return nn.functional.scaled_dot_product_attention(q, k, k)

    torch.manual_seed(0)  # with weights of which the limit, not the spread, sets the gain
    model = Sized()
    x = drawn(8, 20, 16) * torch.exp(0.7 * drawn(8, 20, 1, seed=1))  # tokens of many sizes
    assert calibrated(model, x).tuned
    with torch.no_grad():
        model(x.double())
    sharpest = float(model.scores.std(-1, correction=0).max())
    allowed = calibration.SHARPEST_BATCHNORM if batchnorm else calibration.SHARPEST
    assert sharpest == pytest.approx(allowed, rel=0.02)


def test_scores_that_no_weight_scales_are_left_alone():
    class Cosine(nn.Module):
        def __init__(self):
            super().__init__()
            self.qk = nn.Linear(16, 32)

        def forward(self, x):
            q, k = self.qk(x).chunk(2, -1)
            q, k = (nn.functional.normalize(one, dim=-1) for one in (q, k))
            return (q @ k.mT).softmax(-1)

    assert not calibrated(Cosine(), drawn(4, 10, 16)).tuned


def test_the_mean_feature_says_nothing_to_the_classifier():
    model = nn.Sequential(nn.Linear(32, 1000, bias=True))
    model[0].bias.data.zero_()
    x = drawn(64, 32) + 10.0  # all alike but for a tenth
    setting = calibrated(model, x, {id(model[0].weight): 3.0})
    with torch.no_grad():
        of_mean = model(x.double().mean(0))
        logits = model(x.double())
    assert rms(of_mean) < 0.01 * rms(logits)
    assert float(logits.std(-1).median()) == pytest.approx(3.0, rel=0.02)
    assert setting.contrasts == [pytest.approx(0.1, rel=0.05)]


def test_a_layer_of_zeros_is_said_not_to_be_set():
    model = nn.Sequential(nn.Linear(8, 8, bias=False))
    setting = calibrated(model, torch.zeros(4, 8))
    assert setting.notes == ["0.weight: its output is 0 or not finite"]


def test_what_asks_for_float32_gets_float64():
    class Narrow(nn.Module):
        def forward(self, x):
            self.seen = x.float().to(torch.float32).softmax(-1, dtype=torch.float32).dtype
            return x

    model = Narrow()
    calibrated(model, drawn(2, 4))
    assert model.seen is torch.float64


def test_the_direction_of_the_mean_is_taken_out_exactly():
    integers = calibration.draws.normal_integers(0, "weight", 8 * 64).reshape(8, 64)
    mean = drawn(64, seed=3).double().numpy()
    matrix = calibration._without(integers, mean)
    step = 2.0 ** (math.frexp(abs(mean).max())[1] - calibration.MEAN_BITS)
    direction = (mean / step).round()
    assert abs(matrix @ direction).max() < 1e-9 * abs(matrix).max() * abs(direction).sum()
