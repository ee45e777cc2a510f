"""Inputs of a call, from its signature alone: the same bits on every host.

Numbers come from NumPy's Philox.  Each kind of numbers is drawn once, `PERIOD` of them, and a
tensor is the part of these that begins at a place given by the call's id, the set and the tensor's
place in the call: copying takes a tenth of the time of drawing.  The period is prime, so that a
greater tensor's rows and items are no repetitions of each other.  Tensors lie as the signature
says; what their storage holds between their elements is NaN, so that a kernel that reads beside its
argument shows it.

typical     what kinds of operators see in trained models: normal numbers of size 1, factors that
            keep the size, arguments of nonlinear functions with some |x| > 6, scores of softmax and
            attention with a standard deviation of 2.
hard        normalisations of numbers whose mean is 30 times their deviation, and of every second
            slice with a variance of about eps; sums that cancel, and
            output channels of very different sizes; large and tiny magnitudes, signed zeros,
            subnormal numbers and exact ties.
nonfinite   NaN and infinities, for operators that treat every element by itself or only move them:
            the CPU's answer is the right one.
"""

from __future__ import annotations

import functools
import hashlib
import math
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from harness.execution.operators.allowance import moves
from harness.execution.operators.calls import Call
from harness.qualification.signatures import Layout, Signature

SETS = ("typical", "hard")
NONFINITE = "nonfinite"
VERSION = 3  # of what this module makes: results of other versions are not comparable bit by bit

PERIOD = 1_048_573
Values = np.ndarray[Any, Any]
Generator = np.random.Generator

FUNCTIONS = frozenset(
    """gelu silu mish hardswish hardsigmoid sigmoid tanh erf exp softplus elu selu celu relu
    leaky_relu hardtanh clamp clamp_min clamp_max log_sigmoid sin cos abs neg sign square""".split()
)
_POSITIVE = frozenset("sqrt rsqrt log log2 log10 log1p pow reciprocal".split())
NORMALISATIONS = frozenset(
    """native_batch_norm _native_batch_norm_legit_no_training native_layer_norm native_group_norm
    layer_norm group_norm batch_norm _fused_rms_norm rms_norm var var_mean std std_mean""".split()
)
SOFTMAX = frozenset("_softmax _log_softmax softmax log_softmax _safe_softmax".split())
_PAIRS = frozenset("add sub mul maximum minimum where".split())
# Every element by itself, in one way only: infinities have one right answer.
_EXACT_NONFINITE = FUNCTIONS - {"pow"}
_OFF_CENTRE = 30.0


def has_nonfinite(signature: Signature, call: Call) -> bool:
    """Whether the set of NaN and infinities says anything about a call."""
    floats = [layout for layout in signature.layouts() if layout.dtype.is_floating_point]
    return bool(floats) and (moves(call) or call.base in _EXACT_NONFINITE)


def make(signature: Signature, which: str) -> Call:
    """A call with the numbers of a set, on the CPU; floating point in float32 whatever its dtype.

    Raises ValueError for an operator whose integer arguments are not known to have a safe range.
    """
    ranges = _IntegerRanges(signature)

    def tensor(number: int, layout: Layout) -> torch.Tensor:
        text = f"{signature.id} {which} {number}"
        key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
        return placed(_values(signature, which, layout, ranges.names[number], key, ranges), layout)

    return signature.call(tensor)


def placed(values: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Values as their layout says; NaN between the elements, where the dtype has one."""
    if layout.contiguous and not layout.offset:
        return values
    if values.is_floating_point() or values.is_complex():
        storage = torch.full((layout.extent,), torch.nan, dtype=values.dtype)
    else:
        storage = torch.zeros(layout.extent, dtype=values.dtype)
    view = storage.as_strided(layout.shape, layout.strides, layout.offset)
    if 0 in layout.strides and layout.elements:
        # One element in several places: the first of them is written.
        first = tuple(slice(0, 1) if step == 0 else slice(None) for step in layout.strides)
        view[first].copy_(values[first])
    else:
        view.copy_(values)
    return view


def _values(
    signature: Signature, which: str, layout: Layout, name: str, key: int, ranges: _IntegerRanges
) -> torch.Tensor:
    shape, dtype = layout.shape, layout.dtype
    if dtype == torch.bool:
        return torch.from_numpy(_generator(key).random(shape) < 0.7)
    if not (dtype.is_floating_point or dtype.is_complex):
        low, high = ranges.of(name)
        return torch.from_numpy(_generator(key).integers(low, high, shape)).to(dtype)
    if dtype.is_complex:
        parts = part("normal", key, (*shape, 2))
        return torch.view_as_complex(torch.from_numpy(parts))
    base = base_of(signature.operator)
    short = dtype != torch.float32
    values = _floats(base, name, shape, which, key, short=short)
    if which == "hard" and base in NORMALISATIONS and name in (*_NORMALISED, *_STATISTICS):
        _near_constant(values, base, name, key, ranges.arguments)
    single = torch.from_numpy(values)
    # As the call's own format holds it, so that every format is judged on numbers that it has.
    return single.to(dtype).float() if dtype in (torch.float16, torch.bfloat16) else single


def _generator(key: int) -> Generator:
    return np.random.Generator(np.random.Philox(key=key))


def part(kind: str, key: int, shape: tuple[int, ...], *, spoiled: bool = False) -> Values:
    """Numbers of a kind (`_KINDS`) in float32; `spoiled`: with NaN and infinities among them."""
    drawn = _drawn(kind, spoiled)
    found = np.empty(shape, np.float32)
    flat, start, done = found.reshape(-1), key % PERIOD, 0
    while done < flat.size:
        length = min(flat.size - done, PERIOD - start)
        flat[done : done + length] = drawn[start : start + length]
        start, done = 0, done + length
    return found


@functools.cache
def _drawn(kind: str, spoiled: bool) -> Values:
    """All numbers of a kind; 4 MB each, and a call has few kinds."""
    random = _generator(zlib.crc32(f"{kind} {spoiled}".encode()))
    values = _KINDS[kind](random.standard_normal(PERIOD, np.float32), random)
    if spoiled:
        values = _spoiled(values, random)
    values = np.ascontiguousarray(values, np.float32)
    values.flags.writeable = False
    return values


def _floats(
    base: str, name: str, shape: tuple[int, ...], which: str, key: int, *, short: bool
) -> Values:
    hard = which == "hard"

    def of(kind: str) -> Values:
        return part(kind, key, shape, spoiled=which == NONFINITE)

    if base in NORMALISATIONS:
        if name in ("weight", "bias", "running_var"):
            return of(f"norm {name}")
        return of("off-centre" if hard else "normal")
    if base in ("convolution", "_convolution", "conv2d"):
        if name == "weight":
            return _factor(of("normal"), axis=0, key=key, hard=hard)
        return of("shifted" if hard and name == "input" else "normal")
    if base in ("addmm", "mm", "bmm", "baddbmm", "matmul", "linear", "mv", "addmv"):
        if name in ("mat2", "batch2", "other", "weight"):
            return _factor(of("normal"), axis=-1, key=key, hard=hard)
        return of("shifted" if hard and name in ("mat1", "batch1", "self", "input") else "normal")
    if base == "scaled_dot_product_attention":
        score = name in ("query", "key")
        return of(("tied query" if score else "tied value") if hard else
                  ("query" if score else "normal"))  # fmt: skip
    if base in SOFTMAX:
        return of("tied scores" if hard else "scores")
    if base in _POSITIVE or (base == "div" and name == "other"):
        return of(("positive short" if short else "positive wide") if hard else "positive")
    if base == "grid_sampler_2d" and name == "grid":
        return of("grid")
    if base in FUNCTIONS:
        return of("edges" if hard else "wide")
    if hard and (base in _PAIRS or base in _MOVED):
        return of("magnitudes short" if short else "magnitudes")
    return of("tied" if hard else "normal")


_MOVED = frozenset(
    """cat clone copy _to_copy stack roll index index_select gather constant_pad_nd flip repeat
    pixel_shuffle pixel_unshuffle max_pool2d_with_indices max_pool2d _unsafe_view""".split()
)


_NORMALISED, _STATISTICS = ("input", "self"), ("running_mean", "running_var")
_LEADING = frozenset("native_layer_norm layer_norm _fused_rms_norm rms_norm".split())
_BY_CHANNEL = frozenset("native_batch_norm batch_norm _native_batch_norm_legit_no_training".split())


def _near_constant(values: Values, base: str, name: str, key: int, known: dict[str, Any]) -> None:
    """Every second slice that has statistics of its own gets a variance of about eps, in place.

    There eps is no longer small, and a mistake in it, or in what it is added to, no longer hidden
    by the rounding of the sums.
    """
    if base in _LEADING:
        slices = values.reshape(-1, math.prod(known["normalized_shape"]))
    elif base in ("native_group_norm", "group_norm"):
        groups = known.get("group") or known["num_groups"]
        slices = values.reshape(values.shape[0] * groups, -1)
    elif base in _BY_CHANNEL and values.ndim > 1:
        slices = values.reshape(*values.shape[:2], -1).swapaxes(0, 1)
    elif base in _BY_CHANNEL:
        slices = values.reshape(-1, 1)
    else:
        return
    deviation = 2.0 ** round(math.log2(max(known.get("eps") or 1e-5, 1e-12)) / 2)
    if name == "running_var":
        slices[1::2] *= np.float32(deviation**2)
    else:
        small = part("normal", key, slices.shape)[1::2]
        slices[1::2] = np.float32(deviation) * small


def _factor(normal: Values, axis: int, key: int, *, hard: bool) -> Values:
    """A right factor that keeps the size; hard: output channels of sizes 2^-8 to 2^2.

    Changes `normal`, which is the caller's own.
    """
    if normal.ndim < 2:
        return normal
    terms = normal[0].size if axis == 0 else normal.shape[-2]
    size = np.float32(1.0) / np.sqrt(np.float32(max(1, terms)))
    if not hard:
        normal *= size
        return normal
    shape = [1] * normal.ndim
    shape[axis] = normal.shape[axis]
    powers = _generator(key).integers(-8, 3, shape)
    normal *= np.ldexp(size, powers, dtype=np.float32)  # by a power of 2: exactly
    return normal


def _wide(normal: Values, random: Generator) -> Values:
    """Arguments of a nonlinear function: rms 2, some beyond 6."""
    far = random.random(normal.shape) < 0.03
    return np.where(far, np.sign(normal) * (6.0 + np.abs(normal) * 2.0), 1.5 * normal)


def _edges(normal: Values, random: Generator) -> Values:
    """Where functions bend or leave their range: tiny, subnormal, zeros of both signs, large."""
    kind = random.integers(0, 8, normal.shape)
    signs = np.sign(normal)
    values = np.where(kind == 0, normal * np.float32(1e-3), 3.0 * normal)
    values = np.where(kind == 1, signs * np.float32(3e-41), values)
    values = np.where(kind == 2, np.copysign(np.float32(0.0), normal), values)
    values = np.where(kind == 3, np.round(normal * 4.0) / 4.0, values)
    return np.where(kind == 4, np.clip(12.0 * normal, -40.0, 40.0), values)


def _uniform(random: Generator, shape: tuple[int, ...]) -> Values:
    """In [0, 1)."""
    return np.asarray(random.random(shape, np.float32))


def _sized(values: Values, random: Generator, reach: int) -> Values:
    """Times 2^-reach to 2^reach, exactly: NumPy's own powers differ between processors."""
    powers = random.integers(-reach, reach + 1, values.shape)
    return np.ldexp(values, powers, dtype=values.dtype)


def _magnitudes(normal: Values, random: Generator, *, reach: int) -> Values:
    """Sizes from 2^-reach to 2^reach, with zeros of both signs, subnormals and ties."""
    kind = random.integers(0, 16, normal.shape)
    values = np.where(kind < 8, _sized(normal, random, reach), normal)
    values = np.where(kind == 13, np.round(normal), values)
    values = np.where(kind == 14, np.copysign(np.float32(0.0), normal), values)
    return np.where(kind == 15, np.sign(normal) * np.float32(3e-41), values)


def _ties(values: Values, steps: int) -> Values:
    """Rounded to a grid, so that exact ties are common."""
    return (np.round(values * steps) / steps).astype(np.float32)


def _spoiled(values: Values, random: Generator) -> Values:
    kind = random.integers(0, 24, values.shape)
    for number, what in enumerate((np.nan, np.inf, -np.inf)):
        values = np.where(kind == number, np.float32(what), values)
    return values


# What kinds of numbers there are, from normal ones and a generator.
_KINDS: dict[str, Callable[[Values, Generator], Values]] = {
    "normal": lambda n, r: n,
    "shifted": lambda n, r: n + 4.0,
    "off-centre": lambda n, r: n + _OFF_CENTRE,
    "norm weight": lambda n, r: np.float32(0.2) * n + np.float32(1.0),
    "norm bias": lambda n, r: np.float32(0.2) * n,
    "norm running_var": lambda n, r: np.float32(0.3) + np.float32(1.7) * _uniform(r, n.shape),
    "query": lambda n, r: np.float32(1.4) * n,
    "tied query": lambda n, r: _ties(n * 1.4 * 1.6, 8),
    "tied value": lambda n, r: _ties(n * 1.6, 8),
    "scores": lambda n, r: np.float32(2.0) * n,
    "tied scores": lambda n, r: _ties(n * 8.0 + 20.0, 4),
    "positive": lambda n, r: _sized(1.0 + _uniform(r, n.shape), r, 1),
    "positive short": lambda n, r: _sized(1.0 + _uniform(r, n.shape), r, 4),
    "positive wide": lambda n, r: _sized(1.0 + _uniform(r, n.shape), r, 14),
    "grid": lambda n, r: np.float32(2.2) * _uniform(r, n.shape) - np.float32(1.1),
    "wide": _wide,
    "edges": _edges,
    "magnitudes": lambda n, r: _magnitudes(n, r, reach=20),
    "magnitudes short": lambda n, r: _magnitudes(n, r, reach=6),
    "tied": lambda n, r: _ties(n, 4) + 2.0,
}


def base_of(operator: str) -> str:
    """Name without namespace, overload and the mark of writing in place: "relu"."""
    return operator.partition("::")[2].partition(".")[0].rstrip("_")


class _IntegerRanges:
    """Names of a call's tensors, and ranges that are safe for its integers."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self.names: list[str] = []
        self.arguments: dict[str, Any] = {}  # all of them, by name
        seen: set[int] = set()
        arguments = signature.func._schema.arguments
        for position, argument in enumerate(arguments):
            if position < len(signature.args):
                value = signature.args[position]
            else:
                value = signature.kwargs.get(argument.name)
            self.arguments[argument.name] = value
            for layout in _layouts(value):
                if id(layout) not in seen:
                    seen.add(id(layout))
                    self.names.append(argument.name)

    def of(self, name: str) -> tuple[int, int]:
        """[low, high) for the integers of an argument."""
        base = base_of(self._signature.operator)
        first = next(iter(_layouts(self.arguments.get("self"))), None)
        if base in ("index", "index_put") and first is not None and name == "indices":
            return 0, max(1, min(first.shape))
        if base in ("gather", "index_select", "take_along_dim", "index_add") and name == "index":
            dim = self.arguments.get("dim") or 0
            return 0, max(1, first.shape[dim] if first is not None else 1)
        if base == "embedding":
            weight = next(iter(_layouts(self.arguments.get("weight"))), None)
            return 0, weight.shape[0] if weight is not None else 1
        if base == "one_hot":
            return 0, max(1, int(self.arguments.get("num_classes") or 1))
        if base == "repeat_interleave":
            return 1, 2
        if base in _SAFE_INTEGERS:
            return -8, 9
        raise ValueError(f"no safe range is known for the integers of {base}")


_SAFE_INTEGERS = frozenset(
    """add sub mul div eq ne lt le gt ge abs neg clone copy _to_copy cat stack floor_divide
    remainder where masked_fill fill sum _unsafe_view constant_pad_nd rsub flip roll repeat
    bitwise_and minimum maximum max min amax amin all any clamp pow
    square sign cumsum bitwise_not logical_not""".split()
)


def _layouts(value: Any) -> list[Layout]:
    if isinstance(value, Layout):
        return [value]
    if isinstance(value, (tuple, list)):
        return [layout for item in value for layout in _layouts(item)]
    return []
