"""One forward pass in float64 that sets a random model's gains, offsets and statistics on its way.

Every layer is set when the pass reaches it, and what it gives from then on is what the layers
behind it are set with (layer-sequential unit-variance initialisation, Mishkin and Matas 2016, with
the data-dependent offsets of Kraehenbuehl et al. 2016).
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from harness.cases.models import draws
from harness.cases.models.origins import FollowsOrigins, Origins, give, is_measured
from harness.cases.models.range_meter import RangeMeter

TARGET_RMS = 1.5  # of every layer's output, and so of what nonlinear functions get
LOGIT_SPREAD = 1.75  # standard deviation over the keys of what a softmax gets
# The same for the sharpest row at most: attention that takes one key alone is a choice, and many of
# them make a deep model chaotic.  Less where BatchNorm scales query and key (LeViT): no norm brings
# tokens to one size there, scores grow with the square of it, and float32 itself would be off by
# a tenth on an image whose tokens are large.
SHARPEST = 8.0
SHARPEST_BATCHNORM = 5.0
# Mantissa bits that are kept of what is measured: gains, and offsets on a grid of the spread.
GAIN_BITS = 8
OFFSET_BITS = 6
MEAN_BITS = 10
# Offsets of the channels that a curved function gets: their standard deviation, as part of the
# whole.  Around zero GELU and SiLU halve what differs little and keep what differs much, so that
# from layer to layer few images would drown the others; away from zero they treat both alike.
CURVED_OFFSET = 0.6
# The same for gates: most are open (a sigmoid of 1.5 is 0.8), and images that differ much from the
# mean, whose gates are all open or closed, are not made louder by them.
GATE_RMS = 1.2
GATE_OFFSET = 1.5
# Part of the way from a channel's variance to the mean of all: what varies little on these images
# is not made so loud that another image, in which it varies, drowns everything.
SHRINK = 0.25
_DRAWN_OFFSET = 0.2  # standard deviation of biases as drawn
_GREATEST_LOGIT_GAIN = 64.0
_MASKED = 50.0  # below a row's greatest score: a mask, not a score
_GREATEST_OFFSET = 4.0  # of a layer's spread; beyond, centring is mostly cancellation

_LAYERS: dict[Any, int] = {  # function -> dimension of the channels
    functional.linear: -1,
    functional.conv1d: 1,
    functional.conv2d: 1,
    functional.conv3d: 1,
}
_SOFTMAXES = (functional.softmax, torch.softmax, torch.Tensor.softmax)


class Unset(Exception):
    """What a layer gives is zero or not finite, so that nothing can be set by it."""


class Calibration(FollowsOrigins):
    """Sets a model's parameters and BatchNorm statistics as its forward pass goes by.

    The model is in float64 and eval mode, its parameters are drawn already.  `notes`: what could
    not be set; `contrasts`: of every classifier, rms(feature - mean) / rms(feature).
    """

    def __init__(
        self,
        model: torch.nn.Module,
        seed: int,
        classifiers: dict[int, float],
    ) -> None:
        """`classifiers`: id of a classifier's weight -> the standard deviation of its logits."""
        super().__init__(model)
        self.notes: list[str] = []
        self.contrasts: list[float] = []
        self.tuning = False  # whether this pass finds the gains of attention
        self._seed = seed
        self._classifiers = classifiers
        self._buffers = {id(b): name for name, b in model.named_buffers()}
        self._biases = {
            key: parameter.detach().clone()
            for key, (_, parameter) in self.parameters.items()
            if parameter.dim() == 1
        }
        self._norm_biases: dict[int, torch.Tensor] = {}
        self._by_batch: set[int] = set()  # parameters of BatchNorm
        self._gains: dict[int, float] = {}  # of parameters that scale the scores of attention
        self._set: set[int] = set()
        self.handlers |= {
            functional.batch_norm: self._batch_norm,
            functional.layer_norm: self._norm,
            functional.group_norm: self._norm,
            functional.rms_norm: self._norm,
            functional.scaled_dot_product_attention: self._attention,
            **dict.fromkeys(_LAYERS, self._layer),
            **dict.fromkeys(_SOFTMAXES, self._softmax),
        }

    def begin(self, *, tuning: bool) -> None:
        """Before a pass: what the last one set is set anew."""
        self.tuning = tuning
        if tuning:
            self._gains.clear()
        self._set.clear()
        self.contrasts.clear()
        self.notes.clear()

    @property
    def tuned(self) -> bool:
        """Whether there are scores whose spread can be set."""
        return bool(self._gains)

    # ---- what is set

    def _layer(
        self, func: Any, x: torch.Tensor, weight: torch.Tensor, bias: Any = None, *more: Any,
        **named: Any,
    ) -> torch.Tensor:  # fmt: skip
        keys = [key for key, power in self.origins(weight).items() if power == 1]
        key = keys[0] if len(keys) == 1 else 0
        if id(weight) in self._classifiers and key not in self._set:
            self._set.add(key)
            self._classifier(x, weight, bias)
        elif key and key not in self._set:
            self._set.add(key)
            y: torch.Tensor = func(x, weight, None, *more, **named)
            channel = _LAYERS[func] % y.dim()
            own_bias = id(bias) in self._biases and id(bias) not in self._set
            wanted, drawn, shift = self._wanted(key)
            try:
                gain, offset = self._gain(y, channel, own_bias, wanted)
            except Unset as why:
                self.notes.append(f"{self.parameters[key][0]}: {why}")
            else:
                self.parameters[key][1].data.mul_(gain)
                shape = [-1 if i == channel else 1 for i in range(y.dim())]
                if own_bias:
                    self._set.add(id(bias))
                    fresh = self._biases[id(bias)] * (drawn / _DRAWN_OFFSET) + shift
                    bias.data.copy_(fresh + torch.from_numpy(offset))
                y = y.mul_(gain)
                if bias is not None:
                    y = y.add_(bias.view(shape))
                return give(y, {key: 1}, is_measured(x))
        value: torch.Tensor = func(x, weight, bias, *more, **named)
        return give(value, {key: 1} if key else {}, is_measured(x))

    def _wanted(self, key: int) -> tuple[float, float, float]:
        """A layer's spread, the standard deviation of its channels' offsets, and their mean."""
        factor = self._gains.get(key, 1.0)
        if key in self.gates:
            return GATE_RMS, _DRAWN_OFFSET, GATE_OFFSET
        if key in self.curved:
            around = math.sqrt(1.0 - CURVED_OFFSET**2)
            return TARGET_RMS * around, TARGET_RMS * CURVED_OFFSET, 0.0
        return TARGET_RMS * factor, _DRAWN_OFFSET * factor, 0.0

    def _gain(
        self, y: torch.Tensor, channel: int, centred: bool, wanted: float
    ) -> tuple[float, draws.Array]:
        """The gain, and the offset of every channel, for a layer's output without bias."""
        others = [i for i in range(y.dim()) if i != channel]
        mean = y.mean(others)
        variance = y.var(others, correction=0)
        varying, constant = float(variance.mean()), float(mean.square().mean())
        if not (math.isfinite(varying) and varying + constant > 0):
            raise Unset("its output is 0 or not finite")
        # A class token before its first image is the same for all of them: nothing to centre.
        centred = centred and varying > 1e-6 * constant
        spread = math.sqrt(varying if centred else varying + constant)
        gain = draws.coarse(wanted / spread, GAIN_BITS)
        limit = _GREATEST_OFFSET * wanted if centred else 0.0
        offset = np.clip(-gain * mean.numpy(), -limit, limit)
        return gain, draws.on_grid(offset, wanted, OFFSET_BITS)

    def _batch_norm(
        self, func: Any, x: torch.Tensor, mean: Any, variance: Any, weight: Any = None,
        bias: Any = None, *more: Any, **named: Any,
    ) -> torch.Tensor:  # fmt: skip
        if id(mean) in self._buffers and id(mean) not in self._set:
            self._set.add(id(mean))
            self._statistics(x, mean, variance)
        value: torch.Tensor = func(x, mean, variance, weight, bias, *more, **named)
        origins = self._affine(weight, bias)
        self._by_batch.update(origins)
        return give(value, origins, is_measured(x))

    def _statistics(self, x: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor) -> None:
        """Mean and variance of every channel, rounded, then moved by a little that is drawn.

        What is drawn has all of float32's bits: numbers of few bits would hide a kernel that
        stores them in a shorter format.
        """
        others = [i for i in range(x.dim()) if i != 1]
        found = x.mean(others).numpy(), x.var(others, correction=0).numpy()
        means, variances = found[0], found[1] + SHRINK * (found[1].mean() - found[1])
        name = self._buffers[id(mean)]
        small = draws.uniform(self._seed, name, 2 * len(mean), -(2.0**-8), 2.0**-8)
        spreads = [draws.coarse(math.sqrt(v), GAIN_BITS) if v > 0 else 1.0 for v in variances]
        for i, spread in enumerate(spreads):
            if not math.isfinite(spread):
                self.notes.append(f"{name}: its input is not finite")
                return
            centre = draws.on_grid(means[i : i + 1], spread, OFFSET_BITS)[0]
            mean[i] = centre + spread * small[2 * i]
            variance[i] = spread * spread * (1.0 + small[2 * i + 1])

    def _norm(self, func: Any, x: torch.Tensor, *args: Any, **named: Any) -> torch.Tensor:
        value: torch.Tensor = func(x, *args, **named)
        tensors = [a for a in (*args, *named.values()) if isinstance(a, torch.Tensor)]
        return give(value, self._affine(*tensors[:2]), is_measured(x))

    def _affine(self, weight: Any = None, bias: Any = None) -> Origins:
        """Origins of a norm's result; its bias is scaled with the weight when that is."""
        origins = self.origins(weight)
        if len(origins) == 1 and id(bias) in self.parameters:
            self._norm_biases[next(iter(origins))] = bias
        return origins

    # ---- attention

    def _softmax(self, func: Any, x: torch.Tensor, *args: Any, **named: Any) -> torch.Tensor:
        if self.tuning:
            dim = args[0] if args and args[0] is not None else named.get("dim", -1)
            gain = self._tune(_variances(x, dim), self.origins(x))
            x = x * gain
        value: torch.Tensor = func(x, *args, **named)
        return give(value, {}, is_measured(x))

    def _attention(
        self, func: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *args: Any,
        **named: Any,
    ) -> torch.Tensor:  # fmt: skip
        if self.tuning:
            scale = named.get("scale") or q.shape[-1] ** -0.5
            # The variance over keys of q . k: q' C q, with the covariance C of the keys.
            centred = k - k.mean(-2, keepdim=True)
            covariance = centred.mT @ centred / k.shape[-2]
            if covariance.shape[1] != q.shape[1]:  # grouped queries
                covariance = covariance.repeat_interleave(q.shape[1] // covariance.shape[1], 1)
            variances = ((q @ covariance) * q).sum(-1) * scale**2
            gain = self._tune(variances, self.follow("matmul", (q, k), {}))
            q = q * gain
        value: torch.Tensor = func(q, k, v, *args, **named)
        return give(value, self.origins(v), is_measured(q))

    def _tune(self, variances: torch.Tensor, origins: Origins) -> float:
        """Take the gain that brings scores to their spread; returns it for this pass."""
        spread = math.sqrt(max(float(variances.mean()), 0.0))
        sharpest = math.sqrt(max(float(variances.max()), 0.0))
        if not (math.isfinite(spread) and spread > 1e-12):
            return 1.0
        total = sum(origins.values())
        if total <= 0 or any(power < 0 for power in origins.values()):
            return 1.0
        limit = SHARPEST_BATCHNORM if self._by_batch.intersection(origins) else SHARPEST
        gain = min(LOGIT_SPREAD / spread, limit / sharpest)
        gain = min(max(gain, 1 / _GREATEST_LOGIT_GAIN), _GREATEST_LOGIT_GAIN)
        share = draws.coarse(gain ** (1.0 / total), GAIN_BITS)
        for key in origins:
            self._gains.setdefault(key, share)
        return float(share**total)

    def apply(self) -> None:
        """Scale the parameters of norms and of plain products; those of layers come in a pass."""
        for key in {*self._gains, *self.curved, *self.gates} - self._set:
            _, parameter = self.parameters[key]
            bias = self._norm_biases.get(key)
            if key in self._gains:
                parameter.data.mul_(self._gains[key])
                if bias is not None:
                    bias.data.mul_(self._gains[key])
            elif bias is not None:  # a norm's gains have an rms of TARGET_RMS as drawn
                wanted, drawn, shift = self._wanted(key)
                parameter.data.mul_(wanted / TARGET_RMS)
                bias.data.mul_(drawn / _DRAWN_OFFSET).add_(shift)

    # ---- the classifier

    def _classifier(self, x: torch.Tensor, weight: torch.Tensor, bias: Any) -> None:
        """W <- s W (1 - m m' / |m|^2) with the mean feature m, of few bits; exact up to s."""
        features = x.movedim(1, -1) if weight.dim() == 4 else x
        rows = features.reshape(-1, features.shape[-1]).numpy()
        if not np.isfinite(rows).all():
            return  # the caller reports outputs that are not finite
        name = self.parameters[id(weight)][0]
        drawn = draws.normal_integers(self._seed, name, weight.numel()).reshape(len(weight), -1)
        mean = rows.mean(0)
        self.contrasts.append(
            float(np.sqrt(np.square(rows - mean).mean() / np.square(rows).mean()))
        )
        matrix = _without(drawn, mean)
        logits = (rows - mean) @ matrix.T
        spread = float(np.median(logits.std(axis=1)))
        if not (math.isfinite(spread) and spread > 0):
            self.notes.append("the classifier's input does not depend on the image: not scaled")
            return
        gain = draws.coarse(self._classifiers[id(weight)] / spread, GAIN_BITS)
        weight.data.copy_(torch.from_numpy(matrix * gain).view(weight.shape))
        if id(bias) in self._biases:
            bias.data.copy_(self._biases[id(bias)])


def _without(drawn: draws.Integers, mean: draws.Array) -> draws.Array:
    """Rows with the direction of `mean` taken out, by sums of integers, which are exact."""
    greatest = float(np.abs(mean).max())
    if not greatest > 0:
        return drawn.astype(np.float64)
    step = math.ldexp(1.0, math.frexp(greatest)[1] - MEAN_BITS)
    direction = np.rint(mean / step).astype(np.int64)
    square = int(direction @ direction)
    along = drawn @ direction
    return np.asarray(drawn - along[:, None] * direction[None, :] / square)


class _Measuring(TorchDispatchMode):
    def __init__(self, meter: RangeMeter) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._meter = meter

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._meter.see(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))


def measuring(meter: RangeMeter) -> AbstractContextManager[Any]:
    """While inside, `meter` sees the operators that run."""
    return _Measuring(meter)


def _variances(x: torch.Tensor, dim: int) -> torch.Tensor:
    """Variances of scores along `dim`, without what a mask took out."""
    kept = x > x.amax(dim, keepdim=True) - _MASKED
    count = kept.sum(dim, keepdim=True)
    inside = torch.where(kept, x, 0.0)
    mean = inside.sum(dim, keepdim=True) / count
    deviation = torch.where(kept, x - mean, 0.0)
    return deviation.square().sum(dim, keepdim=True) / count
