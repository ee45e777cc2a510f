"""Rounding that one operator call has to be allowed on any device, element by element.

One derivation for the check, the share and the localisation.  The result is stored once: unit
roundoff u of the format, so |error| <= u |o|, with mean square (u o)^2 / 3.  Inside, operators
compute in float32 (unit roundoff v), each rounding again of mean square (v x)^2 / 3 for the number
x that it rounds; what x can be depends on the **terms** and not on the result alone, which may be
small because they cancel:

sums        n terms t in any order, one by one: partial sums S_k wander and drift, and the sum of
            their squares is at most n (sum t^2 + o^2) for terms in random order (its mean is
            n (sum t^2 / 6 + o^2 / 3)).  sum t^2 is the same operator on squared arguments.
Winograd    3x3 convolutions of stride 1 may be computed by F(4x4, 3x3): see `_WINOGRAD`.
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

from harness.execution.operators.calls import Call, bound, mapped, rerun, results

SINGLE = 2.0**-24  # v
# Roundings inside any operator that rounds at all.
CHAIN = 8
_ULPS = 8.0**2  # 4 units in the last place, each at most 2 v |o|
_ZERO_ULPS = 4.0**2  # 2 such units
# Of F(4x4, 3x3): mean square of the error over v^2 / 3 sum t^2 / 9, for independent factors and a
# channel's sum, is G_r G_s with G_r = sum_i A_ri^2 |G_i|^2 |B_i|^2 over the rows of the transforms,
# 9.0, 8.6, 17.3, 94 (mean 32).  Rows of an image see one r and all s: 94 x 32 / 9.
_WINOGRAD = 335.0
_WINOGRAD_TILE = 4

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
    return _name(call) in _MOVES


def rounds_once(call: Call, result: Tensor) -> bool:
    """Whether a result in a short format is a float32 one, rounded once.

    Not so, on devices that are right: norms by statistics, softmax and attention (CANN rounds
    statistics and weights), pools and resampling (factors), products scaled before they are added.
    """
    if result.dtype not in (torch.float16, torch.bfloat16):
        return False
    scaled = any(call.kwargs.get(name, 1) != 1 for name in ("alpha", "beta"))
    return _name(call) in _ROUNDED_ONCE and not scaled


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
        rule = _RULES.get((_name(call), number)) or _RULES.get((_name(call), 0), _other)
        units = _safely(rule, call, o)
        allowed.append((SINGLE / math.sqrt(3)) * torch.sqrt(units.expand(o.shape)))
    return allowed


def _safely(rule: Rule, call: Call, o: Tensor) -> Tensor:
    """A rule's mean square over v^2 / 3; in float64 where squares leave the range of float32."""
    single = o.float()
    for wide, result in ((call, single), (_widened(call), o.double())):
        found = torch.as_tensor(rule(bound(wide), result, wide))
        units = torch.maximum(found, CHAIN * result.square())
        if torch.isfinite(units.sum()):
            return units
    # What is not finite in the exact result is not compared, and infinite terms allow nothing.
    return torch.nan_to_num(units, nan=0.0, posinf=0.0)


def _widened(call: Call) -> Call:
    def widen(value: Any) -> Any:
        return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value

    return Call(call.func, mapped(widen, call.args), mapped(widen, call.kwargs))


def _name(call: Call) -> str:
    return str(call.func._schema.name).partition("::")[2].rstrip("_")


def _squared(call: Call) -> Tensor:
    """The same operator on squared terms: sums, products and means of squares."""

    def square(tensor: Tensor) -> Tensor:
        return tensor.square() if tensor.is_floating_point() else tensor

    scalars = {
        name: value**2 if name in ("alpha", "beta") else value
        for name, value in call.kwargs.items()
    }
    plain = Call(call.func, call.args, scalars)
    return results(plain, rerun(plain, call.func, square, lambda dtype: dtype))[0]


def _sum(terms: float | Tensor, squares: Tensor, o: Tensor) -> Tensor:
    return terms * (squares + o.square())


def _product(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    return _sum(call.terms() + 1, _squared(call), o)


def _convolution(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    squares, terms = _squared(call), call.terms()
    allowed = _sum(terms + 1, squares, o)
    weight = a["weight"]
    plain = tuple(weight.shape[2:]) == (3, 3) and not a.get("transposed", False)
    if plain and set(a["stride"]) == {1} and set(a["dilation"]) == {1}:
        # A tile's error goes to all its places, however small their own terms.
        window = 2 * _WINOGRAD_TILE - 1
        around = torch.nn.functional.max_pool2d(squares, window, 1, window // 2)
        allowed += _WINOGRAD * (terms / 9 / 2 + CHAIN) * around
    return allowed


def _total(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    return _sum(_reduced(a, o), _squared(call), o)


def _cumulative(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    return _sum(a["self"].shape[a["dim"]] if o.dim() else 1, _squared(call), o)


def _mean(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    # Terms x / n: n sum (x / n)^2 is the mean of the squares.
    return _squared(call) + _reduced(a, o) * o.square()


def _mean_of_two(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    """The mean that var_mean and std_mean give beside their first result."""
    x: Tensor = a["self"]
    squares = x.square().mean(a.get("dim"), keepdim=bool(a.get("keepdim", False)))
    return squares + _reduced(a, o) * o.square()


def _pool(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    divisor: int | None = a.get("divisor_override")
    window: int = math.prod(_pair(a["kernel_size"], o.dim() - 2))
    squares = _squared(call) / (divisor or 1)  # divisor^-1 instead of divisor^-2
    return squares * (window / divisor if divisor else 1.0) + window * o.square()


def _adaptive_pool(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    sizes = zip(a["self"].shape[-2:], o.shape[-2:], strict=True)
    window: int = math.prod(-(-size // out) + 1 for size, out in sizes)
    return _squared(call) + window * o.square()


def _pair(value: Any, count: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * count if len(values) == 1 else values


def _positive(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    """Sums of squares, their roots and products: every error is relative."""
    return (_reduced(a, o) + 2 * CHAIN) * o.square()


def _reduced(a: dict[str, Any], o: Tensor) -> float:
    return max(1.0, next(iter(_tensors(a))).numel() / max(1, o.numel()))


def _tensors(a: dict[str, Any]) -> list[Tensor]:
    return [value for value in a.values() if isinstance(value, Tensor)]


def _normalised(
    x: Tensor, mean: Tensor, square: Tensor, n: float, rstd: Tensor, weight: Any, bias: Any
) -> Tensor:
    """y = (x - mean) rstd weight + bias, mean and rstd from sums of n terms; `square`: mean x^2."""
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
    return _normalised(x, mean, square, n, torch.rsqrt(variance + eps), weight, bias)


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
    return _normalised(x, mean, mean.square(), CHAIN, rstd, *wide)


def _channels(values: Any, x: Tensor) -> Any:
    return None if values is None else values.reshape(1, -1, *[1] * (x.dim() - 2))


def _softmax(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    x: Tensor = a["self"].to(o.dtype)
    dim: int = a["dim"]
    below = (x - x.amax(dim, keepdim=True)).nan_to_num(neginf=0.0)
    relative = below.square() + _ULPS + x.shape[dim] / 2
    # The logarithm of such a softmax has its relative error as an absolute one.
    return relative if "log" in _name(call) else relative * o.square()


def _attention(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    query, key, value = a["query"], a["key"], a["value"]
    width = query.shape[-1]
    scale = a.get("scale") or width**-0.5
    if query.shape[-3] != key.shape[-3]:  # keys' and values' heads serve several queries' each
        share = query.shape[-3] // key.shape[-3]
        key, value = (tensor.repeat_interleave(share, -3) for tensor in (key, value))
    squares, score = [], []
    # An image at a time: the weights of all take memory.
    for item in range(len(query)):
        weights = _weights(query[item], key[item], scale, a, item)
        squares.append(weights.square() @ value[item].square())
        longest = torch.linalg.vector_norm(key[item], dim=-1).amax(-1)[..., None]
        score.append((scale * torch.linalg.vector_norm(query[item], dim=-1) * longest).square())
    # Errors of the scores and of their exponentials are independent from key to key, and one
    # that all keys share changes nothing.
    terms = torch.stack(squares)
    own = _ULPS + 2 * (width + 2) * torch.stack(score)[..., None]
    allowed: Tensor = (key.shape[-2] + 4 * CHAIN) * (terms + o.square()) + own * terms
    return allowed


def _weights(query: Tensor, key: Tensor, scale: float, a: dict[str, Any], item: int) -> Tensor:
    """Softmax of the scores [heads, queries, keys] of one image."""
    scores = scale * (query @ key.transpose(-1, -2))
    mask: Tensor | None = a.get("attn_mask")
    if a.get("is_causal"):
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if mask is not None:
        own = mask[item] if mask.dim() == 4 and len(mask) > 1 else mask
        own = own[0] if own.dim() == 4 else own
        scores = scores.masked_fill(~own, -torch.inf) if own.dtype == torch.bool else scores + own
    return torch.softmax(scores, -1).nan_to_num()


def _function(size: Callable[[dict[str, Any], Tensor], Tensor | float]) -> Rule:
    def rule(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
        absolute = torch.as_tensor(size(a, _tensors(a)[0].to(o.dtype)), dtype=o.dtype)
        return _ULPS * o.square() + _ZERO_ULPS * absolute.square()

    return rule


def _exponential(a: dict[str, Any], o: Tensor, call: Call) -> Tensor:
    """exp(x) by 2^(x log2 e) errs by |x| roundings, and so does what is made of it."""
    x = _tensors(a)[0].to(o.dtype)
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
    terms = max(2, _tensors(a)[0].numel())
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
        (_product, 0, "mm bmm addmm baddbmm linear matmul mv dot addmv addbmm"),
        (_convolution, 0, "convolution _convolution conv2d"),
        (_total, 0, "sum"),
        (_cumulative, 0, "cumsum"),
        (_mean, 0, "mean"),
        (_mean_of_two, 1, "var_mean std_mean"),
        (_pool, 0, "avg_pool1d avg_pool2d avg_pool3d"),
        (_adaptive_pool, 0, "_adaptive_avg_pool2d adaptive_avg_pool2d"),
        (
            _positive,
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
        (_transformed, 0, "_fft_r2c _fft_c2r _fft_c2c"),
    )
    for name in names.split()
} | {(name, 0): _function(size) for name, size in _PASSES_ZERO.items()}
