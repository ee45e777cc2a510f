"""Errors of one output image by image, and by the element-wise rule that some reports use.

The element-wise rule asks |device - CPU| <= 1 % of |CPU| of every element.  It misleads: an element
near zero is a difference of large terms, whose rounding is as large as theirs, so that honest
rounding breaks the rule as well.  What an honest run on the CPU does to it is measured beside it.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from harness.judgement import metrics
from harness.judgement.metrics import Array, Pair

ELEMENT_LIMIT = 0.01
_PIECE = 1 << 14


@dataclasses.dataclass(frozen=True)
class ImageErrors:
    """One image's row x of an output, device against CPU.

    `cosine`: of the row as it is; `max_abs`, `mean_abs`: of the differences; `relative`:
    |device - CPU| / |CPU| in the Euclidean norm, NaN where both are zero.
    """

    cosine: float
    max_abs: float
    mean_abs: float
    relative: float


@dataclasses.dataclass(frozen=True)
class ElementRule:
    """The element-wise rule over all elements of an output.

    `beyond`: share of elements with |device - CPU| > 1 % of |CPU|; `honest`: the same for an honest
    run on the CPU in the declared arithmetic; `mean_relative`: mean of |device - CPU| / |CPU| over
    the elements that are not zero on the CPU, NaN where all are.
    """

    beyond: float
    honest: float
    mean_relative: float


def of_images(pair: Pair) -> tuple[ImageErrors, ...]:
    """Errors of each row of a pair [N, ...]."""
    cosines = metrics.cosines_with_zeros(pair)
    norms, _ = pair.norms
    sizes = pair.sizes.reshape(pair.rows[0].shape)
    distances = np.sqrt(metrics.row_products(sizes, sizes))
    return tuple(
        ImageErrors(
            cosine=float(cosine),
            max_abs=float(row.max()),
            mean_abs=float(row.mean()),
            relative=metrics.quotient(float(distance), float(norm)),
        )
        for cosine, row, distance, norm in zip(cosines, sizes, distances, norms, strict=True)
    )


def element_rule(pair: Pair, honest: Array) -> ElementRule:
    """The element-wise rule for a pair [N, ...]; `honest`: an honest run on the CPU, [N, ...]."""
    reference, sizes = pair.reference.reshape(-1), pair.sizes.reshape(-1)
    honest = np.reshape(honest, -1)
    beyond = beyond_honest = there = 0
    total = 0.0
    # A piece's arrays stay in the processor's cache.
    for start in range(0, reference.size, _PIECE):
        piece = slice(start, start + _PIECE)
        exact, size = reference[piece], sizes[piece]
        scale = np.abs(exact)
        allowed = ELEMENT_LIMIT * scale
        beyond += int(np.count_nonzero(size > allowed))
        beyond_honest += int(np.count_nonzero(np.abs(honest[piece] - exact) > allowed))
        nonzero = scale > 0
        if not nonzero.all():
            size, scale = size[nonzero], scale[nonzero]
        there += scale.size
        total += float((size / scale).sum())
    return ElementRule(
        beyond=beyond / reference.size,
        honest=beyond_honest / reference.size,
        mean_relative=total / there if there else float("nan"),
    )
