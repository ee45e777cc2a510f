"""Rounding that one operator call has to be allowed on any device, element by element.

One derivation for the check, the share and the localisation.  The result is stored once: unit
roundoff u of the format, so |error| <= u |o|, with mean square (u o)^2 / 3.  Inside, operators
compute in float32 (unit roundoff v), each rounding again of mean square (v x)^2 / 3 for the number
x that it rounds; what x can be depends on the **terms** and not on the result alone, which may be
small because they cancel:

sums        n terms t in any order, one by one: partial sums S_k wander and drift, and the sum of
            their squares is at most n (sum t^2 + o^2) for terms in random order (its mean is
            n (sum t^2 / 6 + o^2 / 3)).  sum t^2 is the same operator on squared arguments.
Winograd    3x3 convolutions of stride 1 may be computed by F(4x4, 3x3): see `sums.py`.
norms       the sums for mean and variance, their effect on the result to first order, and the
            roundings of (x - mean) rstd gamma + beta, also when folded to x a + b.
softmax     exp(x - max) errs by |x - max| roundings of its argument, then a sum of n.
attention   scores are sums of d terms, at most |q| |k| scale; then a softmax, whose errors are its
            keys' own; then a sum of terms weight x value.
functions   4 units in the last place (8 v |o|); where the function goes through zero, or is a
            difference of larger numbers, also 2 units of the size that is subtracted from:
            `_PASSES_ZERO`.  Near zero such kernels have no relative accuracy, which costs nothing.
resampling  coordinates up to the size s have an error of 4 v s pixels, times the slope.
moves       nothing: the arguments are rounded before.
others      8 roundings of the result, or of its root mean square where that is greater.

Sources: N. Higham, Accuracy and Stability of Numerical Algorithms (2002), sections 2.2, 4.2 and
4.3 (rounding, sums); A. Lavin and S. Gray, arXiv:1509.09308 (transforms of F(4x4, 3x3)).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from harness.execution.operators import sums
from harness.execution.operators.calls import Call, bound, mapped
from harness.execution.operators.sums import CHAIN

SINGLE = 2.0**-24  # v
_TINY = 1e-12  # below it squares leave the range of float32 as well
_ULPS = 8.0**2  # 4 units in the last place, each at most 2 v |o|
_ZERO_ULPS = 4.0**2  # 2 such units
# Results are a choice among the arguments' own numbers.
_MOVES = frozenset(
    """abs alias amax amin cat channel_shuffle clone copy diagonal_copy flip gather index
    index_select lift_fresh max max_pool2d_with_indices max_pool3d_with_indices maximum min minimum
    neg pixel_shuffle pixel_unshuffle reflection_pad1d reflection_pad2d relu repeat
    repeat_interleave replicate_pad1d replicate_pad2d roll sort stack topk tril triu
    unfold_copy adaptive_max_pool2d im2col zeros zeros_like new_zeros ones ones_like new_ones
    zero""".split()
)

Rule = Callable[[dict[str, Any], Tensor, Call], Tensor | float]


def moves(call: Call) -> bool:
    """Whether a call only moves numbers, so that every bit of its result is given."""
    # The absolute value of a complex number is a root.
    return call.base in _MOVES and not any(map(torch.is_complex, call.tensors()))


def rounds_once(call: Call, result: Tensor) -> bool:
    """Whether a result in a short format is a float32 one, rounded once.

    Not so, on devices that are right: norms by statistics, softmax and attention (CANN rounds
    statistics and weights), pools and resampling (factors), products scaled before they are added
    and those to which more than a row is added (CANN's Addmm stores the product first).
    """
    if result.dtype not in (torch.float16, torch.bfloat16):
        return False
    scaled = any(call.kwargs.get(name, 1) != 1 for name in ("alpha", "beta"))
    added = call.args[0] if call.base in ("addmm", "baddbmm") else None
    matrix = added is not None and added.dim() > 1 and added.shape[-2] != 1
    return call.base in _ROUNDED_ONCE and not scaled and not matrix


def inner(call: Call, exact: list[Tensor]) -> list[Tensor]:
    """Root mean square of what rounding inside a call may cost, for every element of its results.

    `exact`: the call's results, float of any shapes.  The arguments are taken as they are; values
    are in the result's unit and at least v sqrt(8 / 3) |o|, 0 for calls that only move numbers.
    """
    allowed = []
    for number, o in enumerate(exact):
        if moves(call) or not o.is_floating_point():
            allowed.append(torch.zeros(()).expand(o.shape))
            continue
        rule = _RULES.get((call.base, number)) or _RULES.get((call.base, 0), _other)
        units = _safely(rule, call, o)
        allowed.append((SINGLE / math.sqrt(3)) * torch.sqrt(units.expand(o.shape)))
    return allowed


def _safely(rule: Rule, call: Call, o: Tensor) -> Tensor:
    """A rule's mean square over v^2 / 3; in float64 where squares leave the range of float32."""
    tiny = bool(o.abs().amax() < _TINY) if o.numel() else False
    for wide, result in ((call, o.float()), (_widened(call), o.double())):
        try:
            found = torch.as_tensor(rule(bound(wide), result, wide))
            units = torch.maximum(found, CHAIN * result.square())
        except (RuntimeError, LookupError, TypeError, ValueError):
            # A form that the rule does not know is no reason to look away.
            units = _other({}, result, wide)
        if torch.isfinite(units.sum()) and not (tiny and wide is call):
            return units
    # What is not finite in the exact result is not compared, and infinite terms allow nothing.
    return torch.nan_to_num(units, nan=0.0, posinf=0.0)


def _widened(call: Call) -> Call:
    def widen(value: Any) -> Any:
        return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value

    return Call(call.func, mapped(widen, call.args), mapped(widen, call.kwargs))


def normalised(
    x: Tensor, mean: Tensor, square: Tensor, n: float, rstd: Tensor, weight: Any, bias: Any
) -> Tensor:
    """y = (x - mean) rstd weight + bias, mean and rstd from sums of n terms; `square`: mean x^2.

    Mean square over v^2 / 3, of the shape to which the arguments broadcast.
    """
    factor: Tensor = rstd.square() if weight is None else (rstd * weight).square()
    bare = (x - mean).square() * factor
    shift: Tensor = torch.zeros((), dtype=x.dtype) if bias is None else bias.square()
    moved = (n * mean.square() + square) * factor
    chain = x.square() * factor + 2 * bare + 2 * shift
    return moved + (n / 4 + 2 * CHAIN) * bare + CHAIN * chain + shift


def _layer_norm(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    x = a["input"]
    dims = list(range(x.dim() - len(a["normalized_shape"]), x.dim()))
    return _of_statistics(x, dims, a["weight"], a["bias"], a["eps"])


def _group_norm(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    x = a["input"]
    groups = a.get("group", a.get("num_groups"))
    split = x.reshape(x.shape[0], groups, x.shape[1] // groups, -1)

    def channels(values: Any) -> Any:
        return None if values is None else values.reshape(1, groups, -1, 1)

    allowed = _of_statistics(split, [2, 3], channels(a["weight"]), channels(a["bias"]), a["eps"])
    return allowed.reshape(x.shape)


def _of_statistics(x: Tensor, dims: list[int], weight: Any, bias: Any, eps: float) -> Tensor:
    mean = x.mean(dims, keepdim=True)
    variance = (x - mean).square().mean(dims, keepdim=True)
    n = math.prod(x.shape[dim] for dim in dims)
    square = variance + mean.square()
    return normalised(x, mean, square, n, torch.rsqrt(variance + eps), weight, bias)


def _batch_norm(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    x = a["input"]
    mean, variance = a.get("running_mean"), a.get("running_var")
    if mean is None or variance is None or a.get("training"):
        dims = [0, *range(2, x.dim())]
        wide = _channels(a["weight"], x), _channels(a["bias"], x)
        return _of_statistics(x, dims, *wide, a["eps"])
    rstd = torch.rsqrt(variance + a["eps"])
    mean, rstd = _channels(mean, x), _channels(rstd, x)
    wide = _channels(a["weight"], x), _channels(a["bias"], x)
    return normalised(x, mean, mean.square(), CHAIN, rstd, *wide)


def _channels(values: Any, x: Tensor) -> Any:
    return None if values is None else values.reshape(1, -1, *[1] * (x.dim() - 2))


def _softmax(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    x: Tensor = a["self"].to(o.dtype)
    dim: int = a["dim"]
    below = (x - x.amax(dim, keepdim=True)).nan_to_num(neginf=0.0)
    relative = below.square() + _ULPS + x.shape[dim] / 2
    # The logarithm of such a softmax has its relative error as an absolute one.
    return relative if "log" in call.base else relative * o.square()


def _attention(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    query, key, value = a["query"], a["key"], a["value"]
    width, keys = query.shape[-1], key.shape[-2]
    scale = a.get("scale") or width**-0.5
    if a.get("enable_gqa"):  # keys' and values' heads serve several queries' each
        key, value = (
            tensor.repeat_interleave(query.shape[-3] // tensor.shape[-3], -3)
            for tensor in (key, value)
        )
    lead = torch.broadcast_shapes(*(tensor.shape[:-2] for tensor in (query, key, value)))
    query, key, value = (
        tensor.expand(*lead, *tensor.shape[-2:]).reshape(-1, *tensor.shape[-2:])
        for tensor in (query, key, value)
    )
    mask: Tensor | None = a.get("attn_mask")
    if a.get("is_causal"):
        mask = torch.ones(query.shape[-2], keys, dtype=torch.bool).tril()
    if mask is not None:
        mask = mask.expand(*lead, query.shape[-2], keys).reshape(-1, query.shape[-2], keys)
    terms, score = [], []
    for item, (q, k) in enumerate(zip(query, key, strict=True)):  # all weights would take memory
        scores = scale * (q @ k.T)
        if mask is not None:
            own = mask[item]
            barred = own.dtype == torch.bool
            scores = scores.masked_fill(~own, -torch.inf) if barred else scores + own
        weights = torch.softmax(scores, -1).nan_to_num()
        terms.append(weights.square() @ value[item].square())
        longest = torch.linalg.vector_norm(k, dim=-1).amax()
        score.append((scale * longest * torch.linalg.vector_norm(q, dim=-1)).square())
    # Errors of the scores and of their exponentials are independent from key to key, and one
    # that all keys share changes nothing.
    summed = torch.stack(terms)
    own = _ULPS + 2 * (width + 2) * torch.stack(score)[..., None]
    allowed: Tensor = (keys + 4 * CHAIN) * (
        summed + o.reshape(summed.shape).square()
    ) + own * summed
    return allowed.reshape(o.shape)


def _function(size: Callable[[dict[str, Any], Tensor], Tensor | float]) -> Rule:
    def rule(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
        absolute = torch.as_tensor(size(a, sums.tensors(a)[0].to(o.dtype)), dtype=o.dtype)
        return _ULPS * o.square() + _ZERO_ULPS * absolute.square()

    return rule


def _exponential(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    """exp(x) by 2^(x log2 e) errs by |x| roundings, and so does what is made of it."""
    x = sums.tensors(a)[0].to(o.dtype)
    return (_ULPS + x.square()) * o.square()


def _power(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    base = torch.as_tensor(a["self"], dtype=o.dtype)
    exponent = torch.as_tensor(a["exponent"], dtype=o.dtype)
    argument = exponent * torch.log(base.abs().clamp_min(1e-30))
    return (_ULPS + argument.square()) * o.square()


def _resampled(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    x: Tensor = (a["self"] if "self" in a else a["input"]).to(o.dtype)
    sizes = zip(x.shape[2:], o.shape[2:], strict=True)
    reach = [2 * math.ceil(2 * max(1.0, size / out)) + 1 for size, out in sizes]
    pool = {1: torch.nn.functional.max_pool1d, 2: torch.nn.functional.max_pool2d}
    spatial = x.dim() - 2
    squares = x.square()
    if spatial in pool and "grid" not in a:
        local = pool[spatial](squares, reach, 1, [width // 2 for width in reach])
        local = torch.nn.functional.interpolate(local, o.shape[2:], mode="nearest")
    else:
        local = squares.amax(list(range(2, x.dim())), keepdim=True)
    coordinate = 4.0 * max(x.shape[2:])
    return (4 * CHAIN + 2 * coordinate**2) * local


def _transformed(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    """Fourier transforms spread every error over all of the result."""
    terms = max(2, sums.tensors(a)[0].numel())
    return (CHAIN + 4 * math.log2(terms)) * o.square().mean()


def _other(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    return CHAIN * torch.maximum(o.square(), o.square().mean())


# What the function subtracts from near a zero: tanh = (e^2x - 1) / (e^2x + 1), and x times it.
_PASSES_ZERO: dict[str, Callable[[dict[str, Any], Tensor], Tensor | float]] = {
    **dict.fromkeys(
        ("tanh", "erf", "expm1", "log1p", "log", "atan", "asin", "sinh"), _one := lambda a, x: 1.0
    ),
    **dict.fromkeys(("log2", "log10", "elu", "selu", "celu", "hardsigmoid", "logit"), _one),
    # Arguments of sine and cosine are reduced by multiples of pi.
    **dict.fromkeys(("sin", "cos", "tan"), lambda a, x: x.abs().clamp_min(1.0)),
    **dict.fromkeys(
        ("gelu", "silu", "mish", "hardswish", "softplus", "log_sigmoid"), lambda a, x: x.abs()
    ),
    **dict.fromkeys(("sqrt", "rsqrt", "reciprocal", "div", "true_divide"), lambda a, x: 0.0),
}
_ROUNDED_ONCE = frozenset(
    """mm bmm addmm baddbmm linear matmul mv convolution _convolution conv2d exp exp2
    sigmoid native_batch_norm _native_batch_norm_legit_no_training cudnn_batch_norm mean""".split()
) | frozenset(_PASSES_ZERO)
_RULES: dict[tuple[str, int], Rule] = {
    (name, number): rule
    for rule, number, names in (
        (sums.product, 0, "mm bmm addmm baddbmm linear matmul mv dot addmv addbmm"),
        (sums.convolution, 0, "convolution _convolution conv2d"),
        (sums.total, 0, "sum"),
        (sums.cumulative, 0, "cumsum"),
        (sums.mean, 0, "mean"),
        (sums.mean_of_two, 1, "var_mean std_mean"),
        (sums.pool, 0, "avg_pool1d avg_pool2d avg_pool3d"),
        (sums.adaptive_pool, 0, "_adaptive_avg_pool2d adaptive_avg_pool2d"),
        (
            sums.positive,
            0,
            "var std var_mean std_mean linalg_vector_norm norm _fused_rms_norm rms_norm",
        ),
        (_layer_norm, 0, "native_layer_norm layer_norm"),
        (_group_norm, 0, "native_group_norm group_norm"),
        (_batch_norm, 0, "native_batch_norm _native_batch_norm_legit_no_training batch_norm"),
        (_batch_norm, 0, "cudnn_batch_norm _batch_norm_impl_index instance_norm"),
        (_softmax, 0, "_softmax _log_softmax softmax log_softmax"),
        (_attention, 0, "scaled_dot_product_attention"),
        (_exponential, 0, "exp exp2 sigmoid"),
        (_power, 0, "pow"),
        (_resampled, 0, "upsample_bilinear2d upsample_bicubic2d upsample_linear1d grid_sampler_2d"),
        (_resampled, 0, "_upsample_bilinear2d_aa _upsample_bicubic2d_aa upsample_trilinear3d"),
        (_resampled, 0, "grid_sampler_3d"),
        (_transformed, 0, "_fft_r2c _fft_c2r _fft_c2c"),
    )
    for name in names.split()
} | {(name, 0): _function(size) for name, size in _PASSES_ZERO.items()}
