import math

import pytest
import torch

from harness.cases.models import random_weights
from harness.system.status import CaseProblem, Stage, Status
from harness.system.torchvision_shim import import_timm

timm = import_timm()


def make(name, seed=0, **options):
    with random_weights.seeded_cpu(seed):
        model = timm.create_model(name, **options)
    return model, random_weights.make_discriminating(model, seed)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "test_nfnet"])
def test_different_images_give_different_answers(name):
    model, measured = make(name)
    assert measured.max_softmax_cosine < 0.99
    assert measured.distinct_top1 >= 4
    assert 1.0 < measured.logit_std < 10.0
    # The number is that of the model, on images it was not fitted to.
    images = random_weights.calibration_input(
        model, random_weights.PROBE_IMAGES, random_weights._PROBE_SEED
    )
    with torch.no_grad():
        assert random_weights.largest_softmax_cosine(model(images)) == measured.max_softmax_cosine


def test_plain_initialisation_is_blind_and_the_measure_shows_it():
    with random_weights.seeded_cpu(0):
        model = timm.create_model("test_resnet").eval()
    with torch.no_grad():
        logits = model(random_weights.calibration_input(model, 6, 5))
    assert random_weights.largest_softmax_cosine(logits) > 0.9999


def test_same_seed_same_bits_and_global_generator_untouched():
    torch.manual_seed(123)
    expected = torch.rand(4)
    torch.manual_seed(123)
    one, _ = make("test_resnet", 3)
    assert torch.equal(torch.rand(4), expected)
    two, _ = make("test_resnet", 3)
    other, _ = make("test_resnet", 4)
    first, second, third = one.state_dict(), two.state_dict(), other.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["conv1.0.weight"], third["conv1.0.weight"])


def test_no_parameter_stays_constant():
    # convnext has layer scales of 1e-6, xcit and cait too; nfnet has zero skip gains.
    for name in ("test_convnext", "test_nfnet", "test_resnet", "test_vit"):
        model, _ = make(name)
        for key, parameter in model.named_parameters():
            if parameter.numel() > 1:
                assert float(parameter.detach().std()) > 0, f"{name} {key}"
    model, _ = make("test_convnext")
    scales = [p for key, p in model.state_dict().items() if key.endswith("gamma")]
    assert scales and all(0.5 <= float(p.min()) and float(p.max()) <= 1.5 for p in scales)


def test_zero_initialised_gamma_becomes_a_scale():
    model = timm.create_model("resnet10t", zero_init_last=True)
    random_weights.randomise_constants(model, torch.Generator().manual_seed(0))
    gammas = [m.weight.detach() for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert gammas and all(float(g.min()) >= 0.5 and float(g.max()) <= 1.5 for g in gammas)


def test_running_statistics_are_those_of_one_pass():
    model = torch.nn.Sequential(torch.nn.Dropout(0.9), torch.nn.BatchNorm2d(3, momentum=0.1))
    images = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 + 5
    assert random_weights.measure_batchnorm(model, images) == 1
    # Dropout stays off, else mean and variance would be far away.
    torch.testing.assert_close(model[1].running_mean, images.mean((0, 2, 3)))
    torch.testing.assert_close(model[1].running_var, images.transpose(0, 1).flatten(1).var(1))
    assert model[1].momentum == 0.1 and not model[1].training


def test_model_without_batchnorm_skips_step_two():
    model = torch.nn.Sequential(torch.nn.LayerNorm(4))
    assert random_weights.measure_batchnorm(model, torch.zeros(1, 4)) == 0


@pytest.mark.slow
def test_two_heads_are_both_scaled():
    model, measured = make("deit_tiny_distilled_patch16_224", num_classes=20)
    assert len(random_weights.classifier_layers(model)) == 2
    assert any("2 classifiers" in note for note in measured.notes)
    images = random_weights.calibration_input(
        model, random_weights.CALIBRATION_IMAGES, random_weights._CALIBRATION_SEED
    )
    with torch.no_grad():
        logits = model(images)
    assert random_weights._typical_std(logits) == pytest.approx(
        random_weights.wanted_std(20), rel=0.15
    )


def test_fewer_classes_get_a_smaller_spread():
    assert random_weights.wanted_std(1000) == random_weights.LOGIT_STD
    assert random_weights.wanted_std(10) == pytest.approx(3 / 3**0.5)  # ln 10 = ln 1000 / 3
    assert random_weights.wanted_std(1) == random_weights.wanted_std(2) > 0.5
    model, _ = make("test_resnet", num_classes=10)
    images = random_weights.calibration_input(
        model, random_weights.CALIBRATION_IMAGES, random_weights._CALIBRATION_SEED
    )
    with torch.no_grad():
        assert random_weights._typical_std(model(images)) == pytest.approx(3 / 3**0.5, rel=1e-3)


def test_model_without_classifier_says_so():
    _, measured = make("test_resnet", num_classes=0)
    assert measured.max_softmax_cosine is None and measured.distinct_top1 is None
    assert any("no classifier" in note for note in measured.notes)


def test_classifier_is_centred_on_the_calibration_images():
    model, _ = make("test_resnet")
    images = random_weights.calibration_input(
        model, random_weights.CALIBRATION_IMAGES, random_weights._CALIBRATION_SEED
    )
    with torch.no_grad():
        logits = model(images)
    assert float(logits.mean(0).abs().max()) < 1e-3
    assert random_weights._typical_std(logits) == pytest.approx(random_weights.LOGIT_STD, rel=1e-3)


def test_non_finite_result_fails_the_load():
    with random_weights.seeded_cpu(0):
        model = timm.create_model("test_resnet")
    model.conv1[0].weight.data[0, 0, 0, 0] = math.nan
    with pytest.raises(CaseProblem, match="non-finite values") as caught:
        random_weights.make_discriminating(model, 0)
    assert (caught.value.status, caught.value.stage) == (Status.FAIL_LOAD, Stage.LOAD)


def test_other_than_three_channels_is_refused():
    model = timm.create_model(
        "test_resnet", in_chans=1, pretrained_cfg_overlay={"input_size": (1, 160, 160)}
    )
    with pytest.raises(CaseProblem, match="takes 1 channels"):
        random_weights.calibration_input(model, 2, 0)
