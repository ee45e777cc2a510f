import functools
import os
import subprocess
import sys

import pytest
import torch

from harness.cases.models import origins, random_weights
from harness.cases.models.operator_ranges import OperatorRange
from harness.system import files
from harness.system.status import CaseProblem, Stage, Status
from harness.system.torchvision_shim import import_timm

timm = import_timm()


@functools.cache  # nobody changes them
def make(name, seed=0, **options):
    with random_weights.seeded_cpu(seed):
        model = timm.create_model(name, **options)
    return model, random_weights.make_discriminating(model, seed)


NAMES = ["test_resnet", "test_vit", "test_convnext", "test_nfnet", "test_efficientnet"]
# Of 10 classes and seed 0.  Any change of one is a new recipe: results with the old weights cannot
# be compared with those of the new ones.
DIGESTS = {
    "test_vit": "6ba6747dc676e1e5",
    "test_nfnet": "207f631caf302419",
    "test_efficientnet": "9678a386411b53b4",
    "test_resnet": "2a5432d28ab9fc24",
    "test_convnext": "be9582e3d78918e3",
}


def digest(model):
    return files.sha256_tensors(model.state_dict())[:16]


@pytest.mark.parametrize("name", NAMES)
def test_different_images_give_different_answers(name):
    model, measured = make(name, num_classes=10)
    assert measured.max_softmax_cosine < 0.99
    assert measured.distinct_top1 >= 4
    assert 1.0 < measured.logit_std < 10.0
    # The number is that of the model, on images it was not fitted to.
    images = random_weights.calibration_input(
        model, random_weights.PROBE_IMAGES, random_weights._PROBE_SEED
    )
    with torch.no_grad():
        assert random_weights.largest_softmax_cosine(model(images)) == measured.max_softmax_cosine


@pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
def test_nonlinear_operators_leave_their_linear_range(name):
    _, measured = make(name, num_classes=10)
    ranges = {one.operator: one for one in measured.ranges}
    assert 1.0 <= ranges["gelu"].rms <= 2.0 and ranges["gelu"].beyond > 0
    assert name != "test_vit" or 1.0 <= ranges["softmax"].spread <= 3.0
    assert not measured.notes and random_weights.missed_targets(measured.ranges) == []


def test_a_range_that_was_not_reached_is_said():
    def one(operator, rms, beyond, spread=None):
        return OperatorRange(operator, 1, rms=rms, largest=9.0, beyond=beyond, spread=spread)

    reached = [one("gelu", 1.5, 0.01), one("softmax", 9.0, 0.5, 2.0)]
    missed = [one("silu", 2.4, 0.1), one("sigmoid", 1.2, 0.0), one("softmax", 2.0, 0.0, 0.5)]
    assert random_weights.missed_targets(reached) == []
    assert random_weights.missed_targets(missed) == [
        "silu: inputs with an rms of 2.4",
        "sigmoid: no input beyond 6",
        "softmax: scores with a standard deviation of 0.5",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_are_these_whatever_torch_initialises(name):
    with random_weights.seeded_cpu(7):
        model = timm.create_model(name, num_classes=10)
    random_weights.make_discriminating(model, 0)
    assert digest(model) == DIGESTS[name]


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet"])
def test_other_kernels_give_the_same_weights(name, monkeypatch):
    # One thread and other kernels (channels last) sum in another order; all that is measured is
    # moved by as much as float64 kernels could be apart at worst.
    generator = torch.Generator().manual_seed(0)

    def disturbed(images):
        noise = 1e-12 * torch.randn(images.shape, generator=generator, dtype=torch.float64)
        images = images.double() * (1.0 + noise)
        return plain(images.contiguous(memory_format=torch.channels_last))

    plain = origins.measured
    monkeypatch.setattr(origins, "measured", disturbed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model, _ = make.__wrapped__(name, num_classes=10)
    finally:
        torch.set_num_threads(threads)
    assert digest(model) == DIGESTS[name]


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["ATEN_CPU_CAPABILITY=default", "MKL_CBWR=COMPATIBLE"])
def test_a_processor_without_vector_units_gives_the_same_weights(setting):
    name, value = setting.split("=")
    program = (
        "import harness\n"
        "from harness.cases.models import random_weights\n"
        "from harness.system import files\n"
        "from harness.system.torchvision_shim import import_timm\n"
        "for name in ('test_vit', 'test_nfnet', 'test_efficientnet'):\n"
        "    model = import_timm().create_model(name, num_classes=10)\n"
        "    random_weights.make_discriminating(model, 0)\n"
        "    print(name, files.sha256_tensors(model.state_dict())[:16])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True,
        env={**os.environ, name: value}, cwd=files.ROOT,
    )  # fmt: skip
    found = dict(line.split() for line in done.stdout.splitlines())
    assert found == {name: DIGESTS[name] for name in found} and len(found) == 3


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
    two, _ = make.__wrapped__("test_resnet", 3)
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
    random_weights.draw_parameters(model, 0)
    gammas = [m.weight.detach() for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    least, most = (part * random_weights.NORM_GAIN for part in (0.5, 1.5))
    assert gammas and all(float(g.min()) >= least and float(g.max()) <= most for g in gammas)


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
        model, random_weights.BATCHNORM_IMAGES, random_weights._CALIBRATION_SEED
    )
    with torch.no_grad():
        assert random_weights._typical_std(model(images)) == pytest.approx(3 / 3**0.5, rel=0.12)


def test_model_without_classifier_says_so():
    _, measured = make("test_resnet", num_classes=0)
    assert measured.max_softmax_cosine is None and measured.distinct_top1 is None
    assert any("no classifier" in note for note in measured.notes)


def test_non_finite_result_fails_the_load():
    model = timm.create_model("test_resnet")
    model.register_forward_hook(lambda module, args, output: output / 0)
    with pytest.raises(CaseProblem, match="non-finite values") as caught:
        random_weights.make_discriminating(model, 0)
    assert (caught.value.status, caught.value.stage) == (Status.FAIL_LOAD, Stage.LOAD)


def test_other_than_three_channels_is_refused():
    model = timm.create_model(
        "test_resnet", in_chans=1, pretrained_cfg_overlay={"input_size": (1, 160, 160)}
    )
    with pytest.raises(CaseProblem, match="takes 1 channels"):
        random_weights.calibration_input(model, 2, 0)
