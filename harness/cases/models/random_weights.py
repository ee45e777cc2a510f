"""Random weights with which a model tells images apart and leaves no operator idle.

A freshly initialised classifier gives nearly the same softmax for every image, so that a
comparison of two devices cannot fail; normalisation at its identity, zero biases and tiny layer
scales hide faults in the operators that apply them; attention whose scores are nearly equal is a
mean, and a GELU of small inputs a line.  Two steps change that.

1. **Every parameter is drawn by its name** (`draws.py`), whatever torch initialised it with.
   Weights of layers are normal with variance 1 / (terms of a sum), each row less its mean, so that
   what all channels have in common does not drown what differs.  What is constant at
   initialisation gets values that show: scales uniform in 0.5 .. 1.5 (times the constant, where
   that is not a near-zero layer scale; times NORM_GAIN for gains of norms), offsets normal(0, 0.2).
   Tokens and positions are normal(0, 0.5).
2. **One pass in float64 sets what has to be measured** (`calibration.py`), on seeded images that
   no case uses: the gain of every layer, so that its output and hence what GELU, SiLU, sigmoid and
   their like get has an rms of 1.5; an offset of every channel that centres it; the statistics of
   BatchNorm; the gains of query and key, so that scores differ by a standard deviation of 1.75
   over the keys (found in a pass of its own before); and the classifier, out of
   which the mean feature is projected, W <- s W (1 - m m' / |m|^2), with s such that the logits of
   a typical image have standard deviation 3 over 1000 classes.

**The same bits on every machine.**  What is drawn is made by integer arithmetic.  What is measured
is rounded to 6 to 10 bits, which differences between kernels, processors and versions of torch
change only where they straddle a boundary.  In float64 they were at most 1e-12 of a channel's
spread, and a value to be rounded to a grid of 2^-6 of the spread lies that near to a boundary with
a chance of 1.3e-10; with 10^4 to 10^5 values in a model one of a hundred thousand models gets other
weights somewhere.  Where a model makes tables in float32 as it is built (rotary and sine
positions, swinv2), another torch may make another last bit of them, and the differences are about
1e-7: about one such model of a hundred.  The record's `weights_sha256` would say so.  What is
drawn and then scaled has all 24 bits of float32, offsets and statistics too: numbers that a
shorter format holds as they are would hide a kernel that stores them in it.

What was aimed at is checked on images that nothing was fitted to, and stands in the statistics as a
note where it was missed (a softmax over scores that no weight scales, a gate that sees few images).

Source of the steps: faults injected with and without each of them.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.cases import synthetic
from harness.cases.models import draws
from harness.cases.models.operator_ranges import FAR, OperatorRange
from harness.cases.models.range_meter import RangeMeter
from harness.system.messages import say
from harness.system.status import CaseProblem, Stage, Status

if TYPE_CHECKING:
    import torch
    from torch import nn

RECIPE = 2
LOGIT_STD = 3.0
OFFSET_STD = 0.2
TOKEN_STD = 0.5
NORM_GAIN = 1.44
# What is aimed at: the rms of inputs of nonlinear functions, the spread of scores over the keys.
RMS = (1.0, 2.0)
SPREADS = (1.0, 3.0)
CALIBRATION_IMAGES = 16
BATCHNORM_IMAGES = 32  # with BatchNorm, which sets every channel by them
TUNING_IMAGES = 4
PROBE_IMAGES = 6
# Seeds of the images, apart from those of the cases' inputs.
_CALIBRATION_SEED = 1_000_003
_PROBE_SEED = 2_000_003
_SCALE_NAMES = ("gamma", "gain", "scale", "ls1", "ls2")


@dataclasses.dataclass(frozen=True)
class WeightStatistics:
    """What the weights do on images they were not fitted to.

    `max_softmax_cosine` is the largest cosine between softmax outputs of different images (1 is
    blind; None without a classifier), `logit_std` the median over images of the standard
    deviation over classes, `distinct_top1` the number of classes that come first, out of
    `images`.  `feature_contrast` is rms(feature - mean over images) / rms(feature) at the
    classifier.  `ranges`: what nonlinear operators got.
    """

    max_softmax_cosine: float | None
    logit_std: float | None
    distinct_top1: int | None
    images: int
    feature_contrast: float | None
    ranges: tuple[OperatorRange, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON values."""
        return {
            **dataclasses.asdict(self),
            "ranges": [dataclasses.asdict(one) for one in self.ranges],
            "notes": list(self.notes),
        }


@contextmanager
def seeded_cpu(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator for the block and restore it after; other devices untouched."""
    import torch

    state = torch.get_rng_state()
    try:
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        torch.set_rng_state(state)


def _is_scale(module: nn.Module, name: str, value: float) -> bool:
    """Whether a constant parameter multiplies (a gain) rather than adds."""
    return (
        (name == "weight" and _is_norm(module))  # also a zero-initialised last gamma
        or value != 0.0
        or any(word in name for word in _SCALE_NAMES)
    )


def _is_norm(module: nn.Module) -> bool:
    from torch import nn

    norms = nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm
    return isinstance(module, norms) or "Norm" in type(module).__name__


def _has_batchnorm(model: nn.Module) -> bool:
    from torch import nn

    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())


def draw_parameters(model: nn.Module, seed: int) -> None:
    """Step 1: draw every parameter by its name, in place, whatever torch initialised it with."""
    import torch

    seen: set[int] = set()
    for prefix, module in model.named_modules():
        for attribute, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen or parameter.numel() == 0:
                continue
            seen.add(id(parameter))
            name = f"{prefix}.{attribute}" if prefix else attribute
            drawn = _drawn(module, name, attribute, parameter, seed)
            parameter.data.copy_(torch.from_numpy(drawn).view(parameter.shape))


def _drawn(
    module: nn.Module, name: str, attribute: str, parameter: torch.Tensor, seed: int
) -> draws.Array:
    count, data = parameter.numel(), parameter.detach()
    value = float(data.flatten()[0])
    if not bool((data == value).all()):
        if parameter.dim() > 1 and "weight" in attribute:
            terms = count // len(parameter)
            integers = draws.normal_integers(seed, name, count).reshape(-1, terms)
            rows = draws.centred_rows(integers) if _sums_channels(parameter) else integers
            return np.asarray(rows / (draws.NORMAL_STD * math.sqrt(terms)))
        return draws.normal(seed, name, count, OFFSET_STD if "bias" in attribute else TOKEN_STD)
    if not _is_scale(module, attribute, value):
        return draws.normal(seed, name, count, OFFSET_STD)
    unit = NORM_GAIN if _is_norm(module) else value if abs(value) > 0.1 else 1.0
    return draws.uniform(seed, name, count, 0.5 * unit, 1.5 * unit)


def _sums_channels(weight: torch.Tensor) -> bool:
    """Whether a row sums so many channels that their common mean would drown what differs."""
    return weight.shape[1] >= 16


# Drawing them costs as much as a small model's pass; a process often makes several models.
_images = functools.lru_cache(maxsize=4)(synthetic.synthetic_images)


def calibration_input(model: nn.Module, count: int, seed: int) -> torch.Tensor:
    """Return structured images [count, 3, H, W], float32, normalised as the model's config says.

    Raises CaseProblem for models that do not take three channels.
    """
    import torch

    from harness.system.torchvision_shim import import_timm

    config = import_timm().data.resolve_data_config(model=model)
    channels, height, width = config["input_size"]
    if channels != 3:
        raise CaseProblem(
            Status.FAIL_LOAD,
            Stage.LOAD,
            say(
                "weights.channels",
                "The model takes {channels} channels; random weights are made for 3.",
                channels=channels,
            ),
        )
    images, _ = _images(count, height, width, seed)
    mean = torch.tensor(config["mean"], dtype=torch.float32).view(1, -1, 1, 1)
    std = torch.tensor(config["std"], dtype=torch.float32).view(1, -1, 1, 1)
    return (torch.from_numpy(images) - mean) / std


def classifier_layers(model: nn.Module) -> list[nn.Module]:
    """Return the last Linear (or 1x1 convolution) of each classifier of a timm model.

    Distilled models have two classifiers; a model without one gives an empty list.
    """
    from torch import nn

    get_classifier = getattr(model, "get_classifier", None)
    if get_classifier is None:
        return []
    heads = get_classifier()
    found: list[nn.Module] = []
    for head in heads if isinstance(heads, (tuple, list)) else (heads,):
        if isinstance(head, nn.Module):
            layers = [m for m in head.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
            found.extend(layers[-1:])
    return found


def wanted_std(classes: int) -> float:
    """Standard deviation of the logits that step 3 sets: 3 for 1000 classes, 1.7 for 10.

    A softmax over C independent normal logits gathers on one class when their deviation passes
    sqrt(2 ln C) (the freezing point of the random energy model); 3 is 0.81 of it for 1000.
    With few classes two images would else share one saturated answer by chance.
    """
    return LOGIT_STD * math.sqrt(math.log(max(classes, 2)) / math.log(1000))


def _typical_std(logits: torch.Tensor) -> float:
    """Median over rows of the standard deviation over classes; logits [rows, classes].

    Not one standard deviation over everything: a random network answers a few images ten times
    more strongly than the rest, whose softmax would then be flat.
    """
    return float(logits.std(dim=-1).median())


def largest_softmax_cosine(logits: torch.Tensor) -> float:
    """Largest cosine between softmax outputs of different images; logits [N, C], N >= 2."""
    probabilities = logits.double().softmax(1)
    unit = probabilities / probabilities.norm(dim=1, keepdim=True)
    cosine = unit @ unit.T
    cosine.fill_diagonal_(-1.0)
    return float(cosine.max())


@contextmanager
def _in_float64(model: nn.Module) -> Iterator[None]:
    """The model in float64, and new tensors too, for the block."""
    import torch

    default = torch.get_default_dtype()
    model.double()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(default)
        model.float()


def calibrate(model: nn.Module, seed: int, images: torch.Tensor) -> tuple[float | None, list[str]]:
    """Step 2: set gains, offsets and statistics; returns the feature contrast and notes."""
    import torch

    from harness.cases.models.calibration import Calibration
    from harness.cases.models.origins import measured

    layers: list[Any] = classifier_layers(model)
    with _in_float64(model), torch.no_grad(), _fused_attention(model):
        spreads = {id(layer.weight): wanted_std(len(layer.weight)) for layer in layers}
        calibration = Calibration(model, seed, spreads)
        calibration.begin(tuning=True)
        with calibration:
            model(measured(images[:TUNING_IMAGES]))
        if calibration.tuned and _has_batchnorm(model):
            # Few images say little about scores of tokens that no norm has brought to one size.
            calibration.begin(tuning=True)
            with calibration:
                model(measured(images))
        calibration.apply()
        calibration.begin(tuning=False)
        with calibration:
            output = model(measured(images))
        notes = calibration.notes
        if not layers:
            notes.append("no classifier: nothing scaled, outputs are features")
        elif isinstance(output, torch.Tensor) and calibration.contrasts:
            if len(layers) > 1:
                notes.append(f"{len(layers)} classifiers: each scaled, their mean rescaled")
            # Whatever follows the layer (a mean of two heads, a norm, a cap) changes the spread.
            factor = wanted_std(output.shape[-1]) / _typical_std(output)
            if math.isfinite(factor) and not 0.9 < factor < 1.1:
                for layer in layers:
                    layer.weight.data.mul_(draws.coarse(factor, 8))
    return min(calibration.contrasts, default=None), notes


@contextmanager
def _fused_attention(model: nn.Module) -> Iterator[None]:
    """Attention as one function, however the process has timm compute it: one way to measure."""
    modules = [m for m in model.modules() if getattr(m, "fused_attn", None) is False]
    for module in modules:
        module.fused_attn = True  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in modules:
            module.fused_attn = False  # type: ignore[assignment]


def missed_targets(ranges: Iterable[OperatorRange]) -> list[str]:
    """A sentence for every kind of operator whose range is not what the weights aim at."""
    found = []
    for one in ranges:
        if one.spread is not None:
            if not SPREADS[0] <= one.spread <= SPREADS[1]:
                found.append(
                    f"{one.operator}: scores with a standard deviation of {one.spread:.2g}"
                )
        elif not RMS[0] <= one.rms <= RMS[1]:
            found.append(f"{one.operator}: inputs with an rms of {one.rms:.2g}")
        elif not one.beyond:
            found.append(f"{one.operator}: no input beyond {FAR:g}")
    return found


def make_discriminating(model: nn.Module, seed: int) -> WeightStatistics:
    """Give a freshly made timm model discriminating random weights, in place; see the module.

    `model` is on the CPU in float32 and stays so, in eval mode.  The same model and seed give the
    same bits.  Raises CaseProblem (fail_load) when its outputs are not finite.
    """
    import torch

    from harness.cases.models.calibration import measuring

    model.eval()
    with _in_float64(model):
        draw_parameters(model, seed)
    count = BATCHNORM_IMAGES if _has_batchnorm(model) else CALIBRATION_IMAGES
    contrast, notes = calibrate(model, seed, calibration_input(model, count, _CALIBRATION_SEED))

    probe = calibration_input(model, PROBE_IMAGES, _PROBE_SEED)
    meter = RangeMeter()
    with torch.no_grad(), measuring(meter):
        output = model(probe)
    ranges = meter.found()
    notes += missed_targets(ranges)
    if not isinstance(output, torch.Tensor):
        notes.append("the output is not one tensor: discrimination not measured")
        return WeightStatistics(None, None, None, PROBE_IMAGES, contrast, ranges, tuple(notes))
    bad = int((~torch.isfinite(output)).sum())
    if bad:
        raise CaseProblem(
            Status.FAIL_LOAD,
            Stage.LOAD,
            say(
                "weights.random",
                "Discriminating random weights (seed {seed}) give {bad} non-finite values of "
                "{size} on the CPU: use real weights for this architecture.",
                seed=seed,
                bad=bad,
                size=output.numel(),
            ),
        )
    classifies = contrast is not None and output.ndim == 2
    return WeightStatistics(
        max_softmax_cosine=largest_softmax_cosine(output) if classifies else None,
        logit_std=_typical_std(output.flatten(1)),
        distinct_top1=len(set(output.argmax(1).tolist())) if classifies else None,
        images=PROBE_IMAGES,
        feature_contrast=contrast,
        ranges=ranges,
        notes=tuple(notes),
    )
