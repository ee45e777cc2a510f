"""What CANN's public sources say an operator computes on a 910B, beside what a device gave.

An operator that no rounding explains may still be computed as its maker means to: by a method that
costs more than rounding.  Where the method is published, the call is computed once more on the CPU
by it, in float64 but for the roundings that make the method what it is.  What it leaves open (the
order of its sums, and with it the last bits of a statistic) is taken as the device has it, within
what a sum in any order may err there (`allowance.py`).  The device computes so where the formulas
and limits that accuse it against float64 do not accuse it against the method's result.

Facts alone, in code of this project; none of it was measured on an NPU.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from harness.devices.npu_settings import COMPATIBLE
from harness.execution.operators import allowance
from harness.execution.operators.calls import Call, bound, mapped, stored
from harness.execution.operators.sums import CHAIN
from harness.judgement.operator_rows import SLICE_RATIO_LIMIT
from harness.system.messages import say

_UNIT = allowance.SINGLE / math.sqrt(3)  # root mean square of one rounding of 1 in float32
# Float32 numbers in a vector register of 256 bytes (Ascend C, basic API).
_LANES = 64
_HALVES = (torch.float16, torch.bfloat16)
_OPS_NN = "https://github.com/hicann/ops-nn"
_TBE = "https://github.com/leideng/CANN-8.1.RC1"


@dataclasses.dataclass(frozen=True)
class Computed:
    """A call by CANN's method; all of the result's shape, float64.

    `exact`: the result before it is stored; `budget`: what the method made of it where that is no
    single value (else `exact`); `inner`: root mean square of what rounding inside may cost each
    element, infinite where the method may give anything.
    """

    exact: Tensor
    budget: Tensor
    inner: Tensor


@dataclasses.dataclass(frozen=True)
class Published:
    """A method: what is particular, where it is published and at which address.

    `compute`: from the call on arguments as stored, in float64, and the device's result; None
    where the source says nothing particular of such a call.
    """

    what: str
    source: str
    address: str
    compute: Callable[[_Given], Computed | None]


class _Given:
    """A call's arguments by name, as stored and then float64, and what a device gave for it."""

    def __init__(self, call: Call, store: torch.dtype, got: Tensor) -> None:
        def widened(value: Any) -> Any:
            floating = isinstance(value, Tensor) and value.is_floating_point()
            return stored(value, store).double() if floating else value

        self.call = call
        self.store = store
        self.got = got.double()
        self.wide = Call(call.func, mapped(widened, call.args), mapped(widened, call.kwargs))
        self.arguments = bound(self.wide)

    def of_rounding(self, exact: Tensor, budget: Tensor | None = None) -> Computed:
        """A result that costs no more inside than on any device."""
        inner = allowance.inner(self.call, [exact])[0]
        return Computed(exact, exact if budget is None else budget, inner.double())

    def nearest(self, candidates: list[Tensor], dims: list[int]) -> Tensor:
        """Of results that the method may give, the device's in each slice over `dims`."""
        best, least = candidates[0], self._distance(candidates[0], dims)
        for other in candidates[1:]:
            distance = self._distance(other, dims)
            best = torch.where(distance < least, other, best)
            least = torch.minimum(distance, least)
        return best

    def _distance(self, other: Tensor, dims: list[int]) -> Tensor:
        return (self.got - other).square().nan_to_num(nan=math.inf).sum(dims, keepdim=True)


def published(call: Call) -> Published | None:
    """The published method of a call's operator; None where there is nothing particular."""
    return _METHODS.get(call.base)


def compute(call: Call, store: torch.dtype, got: Tensor) -> Computed | None:
    """A call by its published method; None where its source says nothing particular of it.

    `call`: as a device declares it, float32 on the CPU; `store`: the dtype that the device ran it
    in; `got`: its first result, on the host.
    """
    found = published(call)
    if found is None:
        return None
    computed = found.compute(_Given(call, store, got))
    if computed is None or computed.exact.shape != got.shape:
        return computed
    # Beyond the format's range the method's result is infinite as well.
    beyond = computed.exact.to(got.dtype).isinf()
    exact = torch.where(beyond, computed.exact.to(got.dtype).double(), computed.exact)
    return dataclasses.replace(computed, exact=exact)


def kinds_differ(computed: Computed, got: Tensor) -> int:
    """How many elements are NaN or infinite otherwise than by the method, where it decides that."""
    exact = computed.exact.to(got.dtype)
    same = (exact == got) | (exact.isnan() & got.isnan()) | (exact.isfinite() & got.isfinite())
    return int((~same & computed.inner.isfinite()).sum())


def _group_norm(given: _Given) -> Computed | None:
    """var = mean(x^2) - mean(x)^2 in float32; y = x f + (beta - f mean), f = gamma / deviation.

    What rounding costs the variance, to first order: with S = mean(x^2), m = mean(x), and sums of
    at most k = n / 64 + c roundings one after another (the vector unit has 64 lanes of float32),

        mean square / (v^2 / 3) <= k (mean(x^4) / n + S^2 + 4 m^2 (S / n + m^2)) + c (m^4 + var^2)

    The deviation of each group is taken as it fits the device best, as far as the variance stays
    within SLICE_RATIO_LIMIT times the root of that.  Below -eps a variance has no root: where that
    is within reach, a group may be NaN as a whole.
    """
    a, got = given.arguments, given.got
    x: Tensor = a["input"]
    groups = int(a["group"] if "group" in a else a["num_groups"])
    split = x.reshape(x.shape[0], groups, x.shape[1] // groups, -1)
    dims = [2, 3]
    n = split.shape[2] * split.shape[3]
    weight, bias = (
        None if a[name] is None else a[name].reshape(1, groups, -1, 1)
        for name in ("weight", "bias")
    )
    mean = split.mean(dims, keepdim=True)
    bare = split - mean
    variance = bare.square().mean(dims, keepdim=True)
    square = variance + mean.square()
    chain = n / _LANES + CHAIN
    spread = split.pow(4).mean(dims, keepdim=True) / n + square.square()
    spread += 4 * mean.square() * (square / n + mean.square())
    spread = chain * spread + CHAIN * (mean.pow(4) + variance.square())
    room = SLICE_RATIO_LIMIT * _UNIT * spread.sqrt()
    least, most = variance + a["eps"] - room, variance + a["eps"] + room

    slope = bare if weight is None else bare * weight
    shift = torch.zeros(1, dtype=x.dtype) if bias is None else bias
    found = got.reshape(split.shape)
    whole = found.isfinite().all(3, keepdim=True).all(2, keepdim=True)
    nothing = ~found.isfinite().any(3, keepdim=True).any(2, keepdim=True)
    power = slope.square().sum(dims, keepdim=True)
    fitted = ((found - shift) * slope).sum(dims, keepdim=True) / power
    exact = torch.rsqrt(variance + a["eps"])
    # 1 / sqrt of what is not positive is infinite here, and no bound.
    rstd = torch.where(whole & (power > 0), fitted, exact).clamp(
        most.rsqrt(), least.clamp_min(0).rsqrt()
    )
    rootless = least <= 0
    result = slope * rstd + shift
    result = torch.where(rootless & nothing, math.nan, result)
    units = allowance.normalised(split, mean, square, n, rstd, weight, bias)
    inner = _UNIT * torch.maximum(units, CHAIN * result.square()).sqrt()
    # Without a deviation nothing tells what the root of a variance near -eps was.
    flat = split.amax(dims, keepdim=True) == split.amin(dims, keepdim=True)
    inner = torch.where(rootless & flat & whole, math.inf, inner)
    inner = torch.where(rootless & nothing, 0.0, inner)
    result, inner = result.reshape(x.shape), inner.reshape(x.shape)
    return Computed(result, result, inner)


def _layer_norm(given: _Given) -> Computed | None:
    """mean and 1 / deviation are rounded to the format that input and weight share.

    Not where LayerNormV4 is taken, of which no rounding is published.  Where the statistic lies so
    near the middle of two numbers that a sum may err across, it may be either.
    """
    a, store = given.arguments, given.store
    x: Tensor = a["input"]
    shape = a["normalized_shape"]
    n = math.prod(shape)
    fourth = (store == torch.bfloat16 and n in (1024, 4096)) or (n < 64 and n % 16 != 0)
    if store not in _HALVES or fourth or os.environ.get(COMPATIBLE) == "1":
        return None
    dims = list(range(x.dim() - len(shape), x.dim()))
    mean = x.mean(dims, keepdim=True)
    square = x.square().mean(dims, keepdim=True)
    room = SLICE_RATIO_LIMIT * _UNIT
    candidates = []
    for middle in _either(mean, room * (square + n * mean.square()).sqrt(), store):
        variance = (x - middle).square().mean(dims, keepdim=True)
        rstd = torch.rsqrt(variance + a["eps"])
        for one in _either(rstd, room / 2 * math.sqrt(n + 2 * CHAIN) * rstd, store):
            result = (x - middle) * one
            result = result if a["weight"] is None else result * a["weight"]
            candidates.append(result if a["bias"] is None else result + a["bias"])
    return given.of_rounding(given.nearest(candidates, dims))


def _either(value: Tensor, room: Tensor, store: torch.dtype) -> list[Tensor]:
    """What a number known up to `room` may be rounded to: the numbers at both ends."""
    return [(value + side * room).to(store).double() for side in (-1, 1)]


def _gelu(given: _Given) -> Computed | None:
    """x / (1 + exp(-sqrt(8 / pi) (x + 0.044715 x^3))), whatever form is asked for."""
    x: Tensor = given.arguments["self"]
    power = -math.sqrt(8 / math.pi) * (x + 0.044715 * x.pow(3))
    return given.of_rounding(x / (1 + power.exp()))


def _average_pool(given: _Given) -> Computed | None:
    """A window's numbers times 1 / (kh kw) in float16, or their sum, stored and then divided.

    On the cube unit; a window of the whole image is a mean, and images of 2:1, ceil_mode and large
    windows go to the vector unit.
    """
    a = given.arguments
    x: Tensor = a["self"]
    (height, width), (rows, columns) = x.shape[-2:], _pair(a["kernel_size"])
    strip = width // height >= 2 or height // width >= 2
    fits = max(rows, columns) <= 255 and (rows * columns <= 255 or max(rows, columns) <= 20)
    divisor = a["divisor_override"]
    cube = not (strip or a["ceil_mode"]) and fits and abs(divisor or 1) <= 255
    whole = (rows, columns) == (height, width) and not any(_pair(a["padding"]))
    if given.store != torch.float16 or whole or not cube:
        return None
    where = (a["kernel_size"], a["stride"] or a["kernel_size"], a["padding"], False, True, 1)
    total = torch.nn.functional.avg_pool2d(x, *where)
    if a["count_include_pad"] or divisor:
        factor = torch.tensor(1 / (divisor or rows * columns)).half().double()
        return given.of_rounding(total * factor)
    counts = torch.nn.functional.avg_pool2d(torch.ones_like(x[..., :1, :, :]), *where)
    room = SLICE_RATIO_LIMIT * allowance.inner(given.call, [total / counts])[0] * counts
    low, high = (one / counts for one in _either(total, room, given.store))
    nearer = (given.got - low).abs() <= (given.got - high).abs()
    return given.of_rounding(torch.where(nearer, low, high))


def _pair(value: Any) -> tuple[int, int]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return (values[0], values[-1])


def _max_pool(given: _Given) -> Computed | None:
    """NaN may be passed over; what becomes of minus infinity is not said."""
    a = given.arguments
    x: Tensor = a["self"]
    stride = a["stride"] or a["kernel_size"]
    pool = functools.partial(
        torch.nn.functional.max_pool2d,
        kernel_size=a["kernel_size"], stride=stride, padding=a["padding"], dilation=a["dilation"],
        ceil_mode=a["ceil_mode"],
    )  # fmt: skip
    over = pool(x.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf))
    exact = torch.where(given.got.isnan(), pool(x), over)
    inner = torch.zeros_like(exact)
    return Computed(exact, exact, torch.where(over == -math.inf, math.inf, inner))


def _attention(given: _Given) -> Computed | None:
    """Powers are rounded to the format before they are divided by their sum."""
    if given.store not in _HALVES:
        return None
    a = given.arguments
    query, key, value = a["query"], a["key"], a["value"]
    if a.get("enable_gqa"):
        key, value = (
            tensor.repeat_interleave(query.shape[-3] // tensor.shape[-3], -3)
            for tensor in (key, value)
        )
    scores = (a.get("scale") or query.shape[-1] ** -0.5) * (query @ key.transpose(-1, -2))
    mask = a.get("attn_mask")
    if a.get("is_causal"):
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if mask is not None:
        barred = mask.dtype == torch.bool
        scores = scores.masked_fill(~mask, -math.inf) if barred else scores + mask
    powers = (scores - scores.amax(-1, keepdim=True)).exp()
    total = powers.sum(-1, keepdim=True)
    exact = powers @ value / total
    # On which side of a tie the last bits of exp put a power is not known: the method's error, not
    # its result, is the measure.
    return given.of_rounding(exact, powers.to(given.store).double() @ value / total)


_METHODS: Mapping[str, Published] = {
    name: method
    for names, method in (
        (
            "native_group_norm group_norm",
            Published(
                say(
                    "cann.group_norm",
                    "variance in one pass, mean square less square of the mean, in float32",
                ),
                "CANN ops-nn, norm/group_norm_silu",
                _OPS_NN,
                _group_norm,
            ),
        ),
        (
            "native_layer_norm layer_norm",
            Published(
                say("cann.layer_norm", "mean and 1 / deviation rounded to the format"),
                "CANN 8.1.RC1, LayerNormV3; ops-nn, norm/layer_norm_v4/op_host",
                _TBE,
                _layer_norm,
            ),
        ),
        (
            "gelu",
            Published(
                say(
                    "cann.gelu",
                    "the tanh form whatever is asked, "
                    "x / (1 + exp(-sqrt(8/pi) (x + 0.044715 x^3)))",
                ),
                "CANN ops-nn, activation/gelu",
                _OPS_NN,
                _gelu,
            ),
        ),
        (
            "avg_pool2d",
            Published(
                say(
                    "cann.avg_pool",
                    "windows times a factor rounded to float16, or their sum stored, then divided",
                ),
                "CANN ops-nn, pooling/avg_pool3_d, aclnnAvgPool2d",
                _OPS_NN,
                _average_pool,
            ),
        ),
        (
            "max_pool2d_with_indices max_pool2d",
            Published(
                say("cann.max_pool", "NaN may be passed over"),
                "CANN ops-nn, aclnnMaxPool2dWithMask, constraints",
                _OPS_NN,
                _max_pool,
            ),
        ),
        (
            "scaled_dot_product_attention",
            Published(
                say(
                    "cann.attention",
                    "online softmax, its powers rounded to the format before the second product",
                ),
                "CANN ops-transformer, FlashAttentionScore",
                "https://github.com/hicann/ops-transformer",
                _attention,
            ),
        ),
    )
    for name in names.split()
}
