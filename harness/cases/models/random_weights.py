"""Random weights with which a model tells images apart.

A freshly initialised classifier gives nearly the same softmax for every image, so that a
comparison of two devices cannot fail; and normalisation at its identity, zero biases and tiny
layer scales hide faults in the operators that apply them.  Three steps change that:

1. Every parameter that is constant at initialisation gets values that show: scales uniform in
   0.5 .. 1.5 (times the constant, where that is not a near-zero layer scale), offsets
   normal(0, 0.2).  This covers gamma and beta of BatchNorm, LayerNorm, GroupNorm and GRN, biases
   (squeeze-excite ones included), layer scales of 1e-6 .. 0.1 (convnext, cait, xcit, poolformer:
   their blocks are no-ops otherwise), nfnet's zero skip gains, zero class tokens, zero
   attention-bias tables.
2. The running statistics of BatchNorm are measured in one pass over seeded images, BatchNorm
   alone in training mode (momentum=None, a plain average): dropout and stochastic depth stay
   off.  Models without BatchNorm skip this.
3. The classifier is centred and scaled: W <- s W M, bias <- -s W M mean(feature), with s such
   that the logits of a typical image have standard deviation 3 over 1000 classes.  M evens out
   the directions in which features of the calibration images differ: M = (C + r)^(-1/2) with
   their covariance C and r = 0.1 of its mean eigenvalue.  Without M one direction rules in
   gated and deep networks: some images, not fitted to, then share one saturated softmax
   (largest cosine between images 1.000 for efficientnet_b0 and dla34, below 0.9 with M).

Source of the steps: faults injected with and without each of them.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.cases import synthetic
from harness.system.status import CaseProblem, Stage, Status

if TYPE_CHECKING:
    import torch
    from torch import nn

RECIPE = 1
LOGIT_STD = 3.0
RIDGE = 0.1
CALIBRATION_IMAGES = 32
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
    classifier: the scaling of step 3 amplifies rounding by its inverse.
    """

    max_softmax_cosine: float | None
    logit_std: float | None
    distinct_top1: int | None
    images: int
    feature_contrast: float | None
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON values."""
        return {**dataclasses.asdict(self), "notes": list(self.notes)}


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
    from torch import nn

    if name == "weight" and isinstance(
        module, (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)
    ):
        return True  # also the zero-initialised last gamma of a residual branch
    return value != 0.0 or any(word in name for word in _SCALE_NAMES)


def randomise_constants(model: nn.Module, generator: torch.Generator) -> int:
    """Step 1: give parameters that are constant at initialisation visible values.

    Returns how many parameters changed.
    """
    import torch

    changed = 0
    seen: set[int] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen or not parameter.requires_grad or parameter.numel() == 0:
                continue
            seen.add(id(parameter))
            data = parameter.data
            value = float(data.flatten()[0])
            if not bool((data == value).all()):
                continue
            fresh = torch.empty(data.shape, dtype=torch.float32)
            if _is_scale(module, name, value):
                fresh.uniform_(0.5, 1.5, generator=generator)
                fresh *= value if abs(value) > 0.1 else 1.0
            else:
                fresh.normal_(0.0, 0.2, generator=generator)
            data.copy_(fresh)
            changed += 1
    return changed


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
            f"The model takes {channels} channels; the harness makes and reads images of 3.",
        )
    images, _ = _images(count, height, width, seed)
    mean = torch.tensor(config["mean"], dtype=torch.float32).view(1, -1, 1, 1)
    std = torch.tensor(config["std"], dtype=torch.float32).view(1, -1, 1, 1)
    return (torch.from_numpy(images) - mean) / std


def measure_batchnorm(model: nn.Module, images: torch.Tensor) -> int:
    """Step 2: set the running statistics of BatchNorm from one pass; returns how many layers."""
    import torch
    from torch import nn

    layers = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    layers = [m for m in layers if m.track_running_stats]
    if not layers:
        return 0
    momenta = [layer.momentum for layer in layers]
    model.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    with torch.no_grad():
        model(images)
    model.eval()
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    return len(layers)


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


def _record_features(
    model: nn.Module, layers: list[nn.Module], images: torch.Tensor
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The inputs of `layers` as [rows, features] each, and the model's output."""
    import torch

    taken: dict[int, torch.Tensor] = {}

    def hook(index: int) -> Any:
        def record(_module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            value = args[0].detach()
            # Conv2d features are [N, C, H, W], Linear ones [..., C].
            rows = value.movedim(1, -1) if isinstance(layers[index], torch.nn.Conv2d) else value
            taken[index] = rows.reshape(-1, rows.shape[-1])

        return record

    handles = [layer.register_forward_pre_hook(hook(i)) for i, layer in enumerate(layers)]
    try:
        with torch.no_grad():
            output = model(images)
    finally:
        for handle in handles:
            handle.remove()
    return [taken[i] for i in range(len(layers))], output


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


def _even_out(weight: torch.Tensor, centred: torch.Tensor) -> torch.Tensor:
    """Return W M of step 3, for W [classes, C] and centred features [rows, C], both float64."""
    import torch

    _, singular, basis = torch.linalg.svd(centred, full_matrices=False)
    variance = singular.square() / len(centred)
    ridge = RIDGE * variance.mean()
    if not float(ridge) > 0:
        return weight.clone()
    # (C + r)^(-1/2) up to a factor: 1 outside the span of the images.
    gain = (variance / ridge + 1.0).rsqrt()
    evened: torch.Tensor = weight + ((weight @ basis.T) * (gain - 1.0)) @ basis
    return evened


def scale_classifier(model: nn.Module, images: torch.Tensor) -> tuple[float | None, list[str]]:
    """Step 3: centre and scale the classifiers; returns the feature contrast and notes."""
    import torch

    layers: list[Any] = classifier_layers(model)
    if not layers:
        return None, ["no classifier: nothing scaled, outputs are features"]
    notes = []
    features, _ = _record_features(model, layers, images)
    contrasts = []
    with torch.no_grad():
        for layer, rows in zip(layers, features, strict=True):
            if not bool(torch.isfinite(rows).all()):
                continue  # the caller reports non-finite outputs
            rows = rows.double()
            mean = rows.mean(0)
            centred = rows - mean
            contrasts.append(float(centred.square().mean().sqrt() / rows.square().mean().sqrt()))
            matrix = _even_out(layer.weight.flatten(1).double(), centred)
            spread = _typical_std(centred @ matrix.T)
            if not (math.isfinite(spread) and spread > 0):
                notes.append("the classifier's input does not depend on the image: not scaled")
                continue
            matrix *= wanted_std(len(matrix)) / spread
            layer.weight.copy_(matrix.view_as(layer.weight))
            if layer.bias is None:
                notes.append("classifier without bias: scaled, not centred")
            else:
                layer.bias.copy_(-(matrix @ mean))
        if len(layers) > 1:
            notes.append(f"{len(layers)} classifiers: each centred and scaled, their mean rescaled")
        # Whatever follows the layer (a mean of two heads, a norm, a cap) changes the spread.
        _, output = _record_features(model, layers, images)
        factor = wanted_std(output.shape[-1]) / _typical_std(output)
        if math.isfinite(factor) and not 0.9 < factor < 1.1:
            for layer in layers:
                layer.weight.mul_(factor)
                if layer.bias is not None:
                    layer.bias.mul_(factor)
    return min(contrasts, default=None), notes


def largest_softmax_cosine(logits: torch.Tensor) -> float:
    """Largest cosine between softmax outputs of different images; logits [N, C], N >= 2."""
    probabilities = logits.double().softmax(1)
    unit = probabilities / probabilities.norm(dim=1, keepdim=True)
    cosine = unit @ unit.T
    cosine.fill_diagonal_(-1.0)
    return float(cosine.max())


def make_discriminating(model: nn.Module, seed: int) -> WeightStatistics:
    """Give a freshly made timm model discriminating random weights, in place; see the module.

    `model` is on the CPU in float32 and stays so, in eval mode.  The same model, seed and
    versions give the same bits.  Raises CaseProblem (fail_load) when its outputs are not finite.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    randomise_constants(model, generator)
    model.eval()
    images = calibration_input(model, CALIBRATION_IMAGES, _CALIBRATION_SEED)
    measure_batchnorm(model, images)
    contrast, notes = scale_classifier(model, images)

    probe = calibration_input(model, PROBE_IMAGES, _PROBE_SEED)
    with torch.no_grad():
        output = model(probe)
    if not isinstance(output, torch.Tensor):
        notes.append("the output is not one tensor: discrimination not measured")
        return WeightStatistics(None, None, None, PROBE_IMAGES, contrast, tuple(notes))
    bad = int((~torch.isfinite(output)).sum())
    if bad:
        raise CaseProblem(
            Status.FAIL_LOAD,
            Stage.LOAD,
            f"Discriminating random weights (seed {seed}) give {bad} non-finite values of "
            f"{output.numel()} on the CPU: use real weights for this architecture.",
        )
    classifies = contrast is not None and output.ndim == 2
    return WeightStatistics(
        max_softmax_cosine=largest_softmax_cosine(output) if classifies else None,
        logit_std=_typical_std(output.flatten(1)),
        distinct_top1=len(set(output.argmax(1).tolist())) if classifies else None,
        images=PROBE_IMAGES,
        feature_contrast=contrast,
        notes=tuple(notes),
    )
