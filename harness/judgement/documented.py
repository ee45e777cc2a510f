"""The protocol's gate: its tables and formulas, exactly as published.

Source: the published port of efficientnet_b0 that this project reproduces.  Softmax
probabilities of both sides are compared; error rate = (1 - mean cosine) x 100 %, required
< 1.0 %; Top-1 must agree for every image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from harness.judgement import metrics
from harness.judgement.metrics import Array

ERROR_RATE_LIMIT_PERCENT = 1.0
_FIVE = 5  # of Top-5


@dataclasses.dataclass(frozen=True)
class ImageRow:
    """One row of the documented per-image table."""

    image: int
    label: str
    cpu_top1: int
    device_top1: int
    cosine: float
    max_abs_error: float  # of the logits
    margin: float  # CPU's Top-1 logit minus its second
    top5_match: bool | None = None  # of the five likeliest in any order; None where five are all
    # Of a record from before `views` showed the classes themselves.
    cpu_top5: dataclasses.InitVar[tuple[int, ...]] = ()
    device_top5: dataclasses.InitVar[tuple[int, ...]] = ()

    def __post_init__(self, cpu_top5: tuple[int, ...], device_top5: tuple[int, ...]) -> None:
        if cpu_top5:
            object.__setattr__(self, "top5_match", set(cpu_top5) == set(device_top5))

    @property
    def match(self) -> bool:
        """Whether both sides name the same class."""
        return self.cpu_top1 == self.device_top1


@dataclasses.dataclass(frozen=True)
class DocumentedGate:
    """The documented accuracy table, computed on softmax probabilities."""

    mean_cosine: float
    mae: float
    error_rate_percent: float
    top1_matches: int
    images: int
    rows: tuple[ImageRow, ...]

    @property
    def top1_agreement_percent(self) -> float:
        """Share of images with the same Top-1 on both sides, in percent."""
        return 100.0 * self.top1_matches / self.images

    @property
    def top5_matches(self) -> int | None:
        """Images with the same five likeliest classes, in any order; None where five are all."""
        found = [row.top5_match for row in self.rows]
        return None if not found or None in found else sum(map(bool, found))

    @property
    def passed(self) -> bool:
        """Error rate below the limit and every Top-1 equal; a NaN never passes."""
        return (
            self.error_rate_percent < ERROR_RATE_LIMIT_PERCENT and self.top1_matches == self.images
        )


def documented_gate(reference: Array, candidate: Array, labels: Sequence[str]) -> DocumentedGate:
    """Compute the documented accuracy tables from logits [N, C] of both sides."""
    already = metrics.is_distribution(reference)
    p_cpu, p_dev = (
        np.asarray(side, np.float64) if already else metrics.softmax(side)
        for side in (reference, candidate)
    )
    cosines = metrics.cosine_similarity(p_cpu, p_dev)
    top_cpu, top_dev = metrics.top1(reference), metrics.top1(candidate)
    top5_cpu, top5_dev = _top5(reference), _top5(candidate)
    margins = metrics.top1_margin(reference)
    largest = metrics.Pair.of(reference, candidate).sizes.max(axis=1)
    rows = tuple(
        ImageRow(
            image=i,
            label=label,
            cpu_top1=int(top_cpu[i]),
            device_top1=int(top_dev[i]),
            cosine=float(cosines[i]),
            max_abs_error=float(largest[i]),
            margin=float(margins[i]),
            top5_match=top5_cpu[i] == top5_dev[i] if top5_cpu[i] else None,
        )
        for i, label in enumerate(labels)
    )
    mean_cosine = float(np.mean(cosines))
    return DocumentedGate(
        mean_cosine=mean_cosine,
        mae=metrics.mean_absolute_error(p_cpu, p_dev),
        error_rate_percent=metrics.error_rate_percent(mean_cosine),
        top1_matches=sum(row.match for row in rows),
        images=len(rows),
        rows=rows,
    )


def _top5(logits: Array) -> list[set[int]]:
    """The five likeliest classes of each row of [N, C]; none where there are no more than five."""
    if logits.shape[1] <= _FIVE:
        return [set()] * len(logits)
    order = np.argsort(-logits, axis=1, kind="stable")[:, :_FIVE]
    return [set(map(int, row)) for row in order]


DOCUMENTED_IMAGES, DOCUMENTED_BATCH, DOCUMENTED_SIZE = 6, 8, "224x224"
