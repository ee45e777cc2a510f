"""How one operator's result stands by the accuracy standards that CANN's owners publish.

Information for readers who know these columns, never a verdict: the harness' own budget judges.

The **commercial standard** (hicann/opbase, docs/zh/ops_precision_standard/commercial_standard.md,
commit 6049643; withdrawn from the repository by 8b296c7) compares with a golden result of higher
precision, x being the device or a benchmark of the same precision, here the CPU:

    MARE = max, MERE = mean of |x - golden| / (|golden| + 1e-7),  RMSE = sqrt(mean (x - golden)^2)

and grades the quotients of device and benchmark (`LEVELS`).  Elements with |golden| below a small
value are counted instead where their error is above a bound, and the quotient of these counts, the
benchmark's at least 1, may be 2.  A benchmark may be exact, so that a quotient says nothing: it
counts as rounded to nearest at least, u being the unit roundoff: MARE u, MERE u / 2, RMSE
u / sqrt(3) of the golden rms (errors uniform within u |golden|, as in `operator_error.Rounding`).

The **ecosystem standard** in force (experimental_standard.md, commit adbe441) has no benchmark:
|x - golden| <= atol + rtol |golden| for 99 % of the elements, and none above a cap or, as it is
read here, 32 units in its last place.

Both leave moves and integers to equality of bits, which is all that is said of them here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import numpy as np

from harness.judgement.metrics import Array

_SMALLEST_GOLDEN = 1e-7
SMALL_RATIO = 2.0
REQUIRED_MATCH = 0.99
_CAP_ULPS = 32


@dataclasses.dataclass(frozen=True)
class Format:
    """A format's numbers in both standards.

    `unit`: unit roundoff; `small`, `small_error`: bound of small values and of their errors;
    `rtol`, `atol`, `cap`: of the ecosystem standard.
    """

    unit: float
    small: float
    small_error: float
    rtol: float
    atol: float
    cap: float


FORMATS = {
    "float16": Format(2.0**-11, 2.0**-11, 2.0**-16, 2.0**-9, 2.0**-9, 0.1),
    "bfloat16": Format(2.0**-8, 2.0**-8, 2.0**-16, 2.0**-6, 2.0**-6, 1.0),
    "float32": Format(2.0**-24, 2.0**-14, 2.0**-30, 2.0**-10, 2.0**-16, 0.01),
    "HF32": Format(2.0**-24, 2.0**-12, 2.0**-28, 2.0**-9, 2.0**-10, 0.1),
}
# Level -> greatest quotients of MARE, MERE and RMSE, the strictest first.
LEVELS = {"L2": (2.0, 1.2, 1.2), "L1": (5.0, 1.5, 1.5), "L0": (10.0, 2.0, 2.0)}
EQUAL, NO_LEVEL = "bits equal", "none"
# aten operators (without overload) of what torch_npu's own tests leave out of their comparison of
# the NPU with the CPU, in float32 (Ascend/op-plugin, test/unsupported_ops_info_base.yaml,
# test_compare_cpu, commit ba79f856).
LEFT_OUT = frozenset(
    """_adaptive_avg_pool2d _log_softmax _native_batch_norm_legit_no_training _softmax
    adaptive_avg_pool2d adaptive_max_pool2d addcdiv addcmul addmm addmv argsort atan2
    avg_pool2d baddbmm bmm
    constant_pad_nd convolution div eye gather grid_sampler_2d hardtanh im2col index_add linear
    logaddexp logsumexp matmul max_pool2d_with_indices mm mul mv native_batch_norm ones_like
    softmax sort std_mean topk upsample_bicubic2d upsample_bilinear2d upsample_nearest2d
    var_mean""".split()
)


@dataclasses.dataclass(frozen=True)
class Standing:
    """One result by both standards.

    `level`: "L2", "L1", "L0", "none", or "bits equal" where that is what is asked;
    `mare_ratio`, `mere_ratio`, `rmse_ratio`, `small_ratio`: device over benchmark, NaN where
    nothing was to be divided; `small`: elements counted as small; `matched`: part of the elements
    within the ecosystem's tolerance; `ecosystem`: whether that standard is met.
    """

    level: str
    ecosystem: bool
    mare_ratio: float = math.nan
    mere_ratio: float = math.nan
    rmse_ratio: float = math.nan
    small_ratio: float = math.nan
    small: int = 0
    matched: float = math.nan


def standing(golden: Array, benchmark: Array, device: Array, format_: Format) -> Standing:
    """A floating-point result by both standards; all three of one shape.

    Elements that are not finite in `golden` or `benchmark` have to be the same in `device` as in
    one of them, else no standard is met; they are left out of everything else.
    """
    golden, benchmark, device = (
        np.asarray(values, np.float64).ravel() for values in (golden, benchmark, device)
    )
    finite = np.isfinite(golden) & np.isfinite(benchmark)
    same = _same(device, golden) | _same(device, benchmark)
    sound = bool(np.all(np.where(finite, np.isfinite(device), same)))
    golden, benchmark, device = (values[finite] for values in (golden, benchmark, device))
    if not sound or not golden.size:
        return Standing(EQUAL if sound else NO_LEVEL, sound)
    error = np.abs(device - golden)
    size = np.abs(golden)
    is_small = size < format_.small
    ratios = _ratios(size[~is_small], error[~is_small], np.abs(benchmark - golden)[~is_small],
                     format_.unit)  # fmt: skip
    wrong = [
        int(np.count_nonzero(values[is_small] > format_.small_error))
        for values in (error, np.abs(benchmark - golden))
    ]
    small_ratio = wrong[0] / max(wrong[1], 1)
    matched = float(np.mean(error <= format_.atol + format_.rtol * size))
    cap = np.maximum(format_.cap, _CAP_ULPS * 2 * format_.unit * size)
    return Standing(
        _level(ratios, small_ratio),
        matched >= REQUIRED_MATCH and bool(np.all(error <= cap)),
        *ratios,
        small_ratio=small_ratio if is_small.any() else math.nan,
        small=int(np.count_nonzero(is_small)),
        matched=matched,
    )


def moved(benchmark: Array, device: Array) -> Standing:
    """A result that only has to have the same bits: moves and integers."""
    equal = bool(np.all(_same(np.asarray(device), np.asarray(benchmark))))
    return Standing(EQUAL if equal else NO_LEVEL, equal)


def _same(one: Array, other: Array) -> Array:
    same: Array = (one == other) | ((one != one) & (other != other))
    return same


def _ratios(size: Array, error: Array, benchmark: Array, unit: float) -> tuple[float, float, float]:
    """Quotients of MARE, MERE and RMSE; NaN without elements."""
    if not size.size:
        return (math.nan,) * 3
    scale = size + _SMALLEST_GOLDEN
    return (
        float(np.max(error / scale) / max(float(np.max(benchmark / scale)), unit)),
        float(np.mean(error / scale) / max(float(np.mean(benchmark / scale)), unit / 2)),
        _rms(error) / max(_rms(benchmark), unit * _rms(size) / math.sqrt(3)),
    )


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _level(ratios: Iterable[float], small_ratio: float) -> str:
    if small_ratio > SMALL_RATIO:
        return NO_LEVEL
    # Written so that NaN, with nothing to divide, is in the way of no level.
    beyond = {
        level
        for level, limits in LEVELS.items()
        if any(ratio > limit for ratio, limit in zip(ratios, limits, strict=True))
    }
    return next((level for level in LEVELS if level not in beyond), NO_LEVEL)


# From the best to the worst.
_ORDER = (EQUAL, *LEVELS, NO_LEVEL)


def worse(one: Standing, other: Standing) -> Standing:
    """The one of the lower level; of two alike the one with the greater RMSE quotient."""

    def rank(standing: Standing) -> tuple[int, bool, float]:
        known = 0.0 if math.isnan(standing.rmse_ratio) else standing.rmse_ratio
        return _ORDER.index(standing.level), not standing.ecosystem, known

    return max(one, other, key=rank)


@dataclasses.dataclass(frozen=True)
class StandardRow:
    """All compared calls of one aten operator ("aten::mm.default") by both standards.

    `calls`: how many; `worst`: the one of the lowest level; `levels`: level -> calls; `ecosystem`:
    calls that meet that standard; `left_out`: whether the vendor's own tests leave the operator out
    of their comparison with the CPU in float32 (`LEFT_OUT`).
    """

    operator: str
    calls: int
    worst: Standing
    levels: dict[str, int]
    ecosystem: int
    left_out: bool


def summarise(found: Iterable[tuple[str, Standing]]) -> tuple[StandardRow, ...]:
    """A row an operator, the lowest level first."""
    by_operator: dict[str, list[Standing]] = {}
    for operator, one in found:
        by_operator.setdefault(operator, []).append(one)
    rows = []
    for operator, own in by_operator.items():
        worst = own[0]
        for one in own[1:]:
            worst = worse(worst, one)
        levels = {level: n for level in _ORDER if (n := sum(s.level == level for s in own))}
        base = operator.partition("::")[2].partition(".")[0].rstrip("_")
        met = sum(one.ecosystem for one in own)
        rows.append(StandardRow(operator, len(own), worst, levels, met, base in LEFT_OUT))
    return tuple(sorted(rows, key=lambda row: (-_ORDER.index(row.worst.level), row.operator)))
