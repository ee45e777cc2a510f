"""What a declared arithmetic costs a model on its inputs, and how a device's error compares.

The measure is the ratio of two errors against the same float64 run of the same model on the same
inputs: the device's, and that of the CPU when it rounds as the declared arithmetic does (the
format budget).  Both contain the model's own amplification of rounding, so that the ratio is
near 1 for honest rounding whatever the model, and one limit serves all of them.

Limits.  Honest kernels of other authors (ONNX Runtime, OpenVINO, inductor) were measured to differ
from the CPU's by at most 1.95 in bfloat16 and 2.8 in float32, 2.2 and 3.4 for a single image
(docs/verdict.md has the distributions).  A reduced format may therefore cost three times its
budget.  Exact float32 may cost ten times the CPU's own error,
since accelerators may sum thousands of terms in orders that cost a small multiple of the CPU's
blocked sums; HF32 left on costs 500 and more.

The same holds for every class, channel, row and token: of few numbers the error may by chance be
larger than its expectation (`operator_error.quantile`), and no more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from harness.judgement import metrics, operator_error
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.metrics import Array, Float64

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
    all images; `image_ratios`: the same for each image; `slice_ratio`: the greatest of any class,
    channel, row or token over all images, divided by what chance does to as few numbers;
    `worst_slice` = (dimension of the output, index), None in outputs without such.
    """

    name: str
    device: OracleError
    cpu: OracleError
    budget_nrmse: float
    ratio: float
    image_ratios: tuple[float, ...]
    limit: float
    slice_ratio: float = 0.0
    worst_slice: tuple[int, int] | None = None

    @property
    def worst_ratio(self) -> float:
        """The greatest of the overall and the per-image ratios."""
        return max(self.ratio, *self.image_ratios)

    @property
    def within(self) -> bool:
        """Whether every ratio is a number and at most the limit."""
        ratios = (self.ratio, *self.image_ratios, self.slice_ratio)
        return all(value <= self.limit for value in ratios)


def image_rmse(oracle: Array, values: Array) -> Float64:
    """Root mean squared difference of each image; arrays [N, ...] -> float64 [N]."""
    images = _difference(oracle, values).reshape(len(oracle), -1)
    return np.asarray(np.sqrt(metrics.row_products(images, images) / images.shape[1]), np.float64)


def _difference(oracle: Array, values: Array) -> Float64:
    """values - oracle, float64, contiguous."""
    return np.ascontiguousarray(np.subtract(values, oracle, dtype=np.float64))


def _oracle_error(
    oracle: Float64, difference: Float64, squares: list[Float64], spread: float
) -> OracleError:
    """Error of a side's output; `squares`: of `difference`, of the slices of every dimension."""
    images = difference.reshape(len(difference), -1)
    largest = np.maximum(images.max(axis=1), -images.min(axis=1))
    of_images = _of_images(squares, oracle)
    rmse = metrics.root_mean_square(of_images)  # all have as many elements
    return OracleError(
        rmse=rmse,
        max_abs=float(largest.max()),
        nrmse=metrics.quotient(rmse, spread),
        image_rmse=tuple(map(float, of_images)),
        image_max_abs=tuple(map(float, largest)),
    )


def _image_budget(oracle: Array, runs: Sequence[Float64]) -> Float64:
    """Budget of each image, float64 [N], in the output's unit.

    `runs`: errors of each image in one or more honest runs in the declared arithmetic; the
    greatest counts.  The floor is half a unit in the last place of float32, for runs that happen
    to be exact.
    """
    errors = np.max(runs, axis=0)
    overall = metrics.root_mean_square(errors)
    floor = _FLOAT32_ROUNDOFF * metrics.root_mean_square(np.asarray(oracle, np.float64))
    return np.asarray(np.maximum(np.maximum(errors, _LEAST_SHARE * overall), floor), np.float64)


@dataclasses.dataclass(frozen=True)
class Allowance:
    """What an output's arithmetic may cost: the same for every way to batch the images.

    `oracle`: float64 run [N, ...]; `spread`: of it; `images`: budget of each image, float64 [N];
    `slices`: for every further dimension the greatest mean square error of each slice that is
    allowed at a ratio of 1; `cpu`: error of the run in the case's dtype; `limit`: greatest ratio
    that passes.
    """

    oracle: Float64
    spread: float
    images: Float64
    slices: tuple[Float64, ...]
    cpu: OracleError
    limit: float


def allowance(oracle: Array, cpu: Array, budgets: Sequence[Array], *, exact: bool) -> Allowance:
    """What one output may cost; all arrays [N, ...] and finite.

    `oracle`: float64 run; `cpu`: run in the case's dtype; `budgets`: honest CPU runs in the
    declared arithmetic; `exact`: whether that is plain float32.
    """
    oracle = np.asarray(oracle, np.float64)
    spread = metrics.spread(oracle)
    runs = [operator_error.square_sums(_difference(oracle, run)) for run in budgets]
    of_cpu = _difference(oracle, cpu)
    return Allowance(
        oracle=oracle,
        spread=spread,
        images=_image_budget(oracle, [_of_images(run, oracle) for run in runs]),
        slices=_slice_budgets(oracle, runs),
        cpu=_oracle_error(oracle, of_cpu, operator_error.square_sums(of_cpu), spread),
        limit=limit(exact=exact),
    )


def compare(name: str, device: Array, allowed: Allowance) -> OutputBudget:
    """Compare the error of one output on the device, [N, ...] and finite, with its budget."""
    difference = _difference(allowed.oracle, device)
    squares = operator_error.square_sums(difference)
    error = _oracle_error(allowed.oracle, difference, squares, allowed.spread)
    ratio, *of_images = _ratios(np.array(error.image_rmse), allowed)
    of_slices = _worst_slice(squares, allowed)
    return OutputBudget(
        name=name,
        device=error,
        cpu=allowed.cpu,
        budget_nrmse=metrics.quotient(metrics.root_mean_square(allowed.images), allowed.spread),
        ratio=ratio,
        image_ratios=tuple(of_images),
        limit=allowed.limit,
        slice_ratio=of_slices[0],
        worst_slice=of_slices[1],
    )


def worst_ratio(values: Array, allowed: Allowance) -> float:
    """The greatest ratio of other values [N, ...], slices too; NaN where some are not finite."""
    with np.errstate(invalid="ignore"):
        squares = operator_error.square_sums(_difference(allowed.oracle, values))
        ratios = _ratios(_of_images(squares, allowed.oracle), allowed)
        return float(np.max([*ratios, _worst_slice(squares, allowed)[0]]))


def _of_images(squares: list[Float64], oracle: Array) -> Float64:
    """Root mean square of each image, float64 [N]."""
    return np.asarray(np.sqrt(squares[0] * len(oracle) / oracle.size), np.float64)


def _slice_budgets(oracle: Float64, runs: Sequence[list[Float64]]) -> tuple[Float64, ...]:
    """What `Allowance.slices` holds; each is drawn towards the whole as an operator's slices are.

    Chance is in it: the quantile of as many Gaussian errors as the slice has elements.
    """
    prior = operator_error.SLICE_PRIOR
    floor = _FLOAT32_ROUNDOFF**2 * float(np.mean(np.square(oracle)))
    whole = max(floor, max(float(np.sum(run[0])) for run in runs) / oracle.size)
    found = []
    for axis in range(1, oracle.ndim):
        elements = oracle.size // oracle.shape[axis]
        own = np.max([run[axis] for run in runs], axis=0)
        drawn = (own + prior * whole) / (elements + prior)
        found.append(np.asarray(drawn * operator_error.quantile(elements) ** 2, np.float64))
    return tuple(found)


def _worst_slice(errors: list[Float64], allowed: Allowance) -> tuple[float, tuple[int, int] | None]:
    """The greatest ratio of any slice, and which it is: (dimension, index)."""
    worst: tuple[float, tuple[int, int] | None] = (0.0, None)
    for axis, budgets in enumerate(allowed.slices, start=1):
        elements = allowed.oracle.size // allowed.oracle.shape[axis]
        with np.errstate(over="ignore"):  # an error where none at all is allowed
            ratios = np.sqrt(errors[axis] / elements / np.maximum(budgets, 5e-324))
        index = int(np.argmax(ratios))  # a NaN is the greatest there is
        if not ratios[index] <= worst[0]:
            worst = float(ratios[index]), (axis, index)
    return worst


def _ratios(image_errors: Float64, allowed: Allowance) -> list[float]:
    """Error / budget, over all images and of each; `image_errors`: float64 [N].

    Of few numbers (a classifier of one or two classes) divided by what chance does to them.
    """
    overall = map(metrics.root_mean_square, (image_errors, allowed.images))
    size = allowed.oracle.size
    chance, image_chance = (
        float(operator_error.chance(count, allowed.limit))
        for count in (size, size // len(allowed.oracle))
    )
    pairs = zip(image_errors.tolist(), allowed.images.tolist(), strict=True)
    return [
        _ratio(*overall) / chance,
        *(_ratio(*pair) / image_chance for pair in pairs),
    ]


def _ratio(error: float, allowed: float) -> float:
    """Error / budget; 0 for no error, where all is zero and the budget as well."""
    return 0.0 if error == 0 else metrics.quotient(error, allowed)
