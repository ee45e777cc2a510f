"""What a declared arithmetic costs a model on its inputs, and how a device's error compares.

The measure is the ratio of two errors against the same float64 run of the same model on the same
inputs: the device's, and that of the CPU when it rounds as the declared arithmetic does (the
format budget).  Both contain the model's own amplification of rounding, so that the ratio is
near 1 for honest rounding whatever the model, and one limit serves all of them.

Limits.  Two honest roundings of one computation (other summation orders, other fusion, native
float16 and bfloat16 kernels against the imitation) were measured to differ by at most 1.5 overall
and 2.1 for a single image (docs/verdict.md has the distributions).  A reduced format may
therefore cost three times its budget.  Exact float32 may cost ten times the CPU's own error,
since accelerators may sum thousands of terms in orders that cost a small multiple of the CPU's
blocked sums; HF32 left on costs 500 and more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from harness import metrics
from harness.arithmetic import Arithmetic
from harness.metrics import Array, Float64

EXACT_LIMIT = 10.0
FORMAT_LIMIT = 3.0
# An image's own budget is a single sample of its rounding error and may be small by luck,
# the more so the fewer outputs there are: it never counts for less than half the overall one.
_LEAST_SHARE = 0.5
_FLOAT32_ROUNDOFF = 2.0**-24


def limit(*, exact: bool) -> float:
    """The greatest ratio that passes; `exact`: plain float32 was declared."""
    return EXACT_LIMIT if exact else FORMAT_LIMIT


@dataclasses.dataclass(frozen=True)
class Budget:
    """Honest CPU runs in the declared arithmetic: output name -> array, one dict a run."""

    arithmetic: Arithmetic
    runs: tuple[dict[str, Array], ...]


@dataclasses.dataclass(frozen=True)
class OracleError:
    """Error of one side against float64, over all images and for each.

    `rmse`, `max_abs`: in the output's unit; `nrmse`: rmse divided by the spread of the float64
    output between images (`metrics.spread`).
    """

    rmse: float
    max_abs: float
    nrmse: float
    image_rmse: tuple[float, ...]
    image_max_abs: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class OutputBudget:
    """One output's error against float64 on both sides, and what the arithmetic may cost.

    `budget_nrmse`: of the honest runs, as `OracleError.nrmse`.  `ratio` = device / budget over
    all images; `image_ratios`: the same for each image.
    """

    name: str
    device: OracleError
    cpu: OracleError
    budget_nrmse: float
    ratio: float
    image_ratios: tuple[float, ...]
    limit: float

    @property
    def worst_ratio(self) -> float:
        """The greatest of the overall and the per-image ratios."""
        return max(self.ratio, *self.image_ratios)

    @property
    def within(self) -> bool:
        """Whether every ratio is a number and at most the limit."""
        return all(value <= self.limit for value in (self.ratio, *self.image_ratios))


def image_rmse(oracle: Array, values: Array) -> Float64:
    """Root mean squared difference of each image; arrays [N, ...] -> float64 [N]."""
    difference = np.asarray(values, np.float64) - np.asarray(oracle, np.float64)
    flat = difference.reshape(len(difference), -1)
    return np.asarray(np.sqrt(np.mean(np.square(flat), axis=1)), np.float64)


def oracle_error(oracle: Array, values: Array) -> OracleError:
    """Error of a side's output against float64; arrays [N, ...], finite."""
    difference = np.abs(np.asarray(values, np.float64) - np.asarray(oracle, np.float64))
    largest = difference.reshape(len(difference), -1).max(axis=1)
    return OracleError(
        rmse=metrics.rmse(oracle, values),
        max_abs=float(largest.max()),
        nrmse=metrics.nrmse(oracle, values),
        image_rmse=tuple(map(float, image_rmse(oracle, values))),
        image_max_abs=tuple(map(float, largest)),
    )


def image_budget(oracle: Array, budgets: Sequence[Array]) -> Float64:
    """Budget of each image, float64 [N], in the output's unit.

    `budgets`: one or more honest runs in the declared arithmetic; the greatest error counts.
    The floor is half a unit in the last place of float32, for runs that happen to be exact.
    """
    errors = np.max([image_rmse(oracle, run) for run in budgets], axis=0)
    overall = np.sqrt(np.mean(np.square(errors)))
    floor = _FLOAT32_ROUNDOFF * np.sqrt(np.mean(np.square(np.asarray(oracle, np.float64))))
    return np.asarray(np.maximum(np.maximum(errors, _LEAST_SHARE * overall), floor), np.float64)


def compare(
    name: str,
    oracle: Array,
    device: Array,
    cpu: Array,
    budgets: Sequence[Array],
    *,
    exact: bool,
) -> OutputBudget:
    """Compare one output's error with its budget; all arrays [N, ...] and finite.

    `oracle`: float64 run; `device`, `cpu`: runs in the case's dtype; `budgets`: honest CPU runs
    in the declared arithmetic; `exact`: whether that is plain float32.
    """
    allowed = image_budget(oracle, budgets)
    overall = np.sqrt(np.mean(np.square(allowed)))
    error = oracle_error(oracle, device)
    with np.errstate(divide="ignore", invalid="ignore"):
        return OutputBudget(
            name=name,
            device=error,
            cpu=oracle_error(oracle, cpu),
            budget_nrmse=float(overall / metrics.spread(oracle)),
            ratio=float(error.rmse / overall),
            image_ratios=tuple(map(float, np.array(error.image_rmse) / allowed)),
            limit=limit(exact=exact),
        )
