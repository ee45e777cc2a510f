"""What two sides' outputs differ in, for tests that assert it number by number: no verdict.

With a classifier the numbers are the documented ones, of softmax probabilities (`documented`).
Without one there is no Top-1 and no error rate, which are about classes: cosine and MAE are then of
the values that the model returns.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from harness.judgement import metrics, whole_numbers
from harness.judgement.documented import DocumentedGate, ImageRow, documented_gate
from harness.judgement.metrics import Array


@dataclasses.dataclass(frozen=True)
class OutputComparison:
    """Numbers of the device's outputs against the CPU's.

    `cosine`: with a classifier the mean over the images, else the smallest of all outputs and
    images; `mae`: of probabilities, else the greatest of all outputs, in their unit.  NaN where
    there is nothing to compare.  `gate`: the documented tables; None without a classifier.
    `emulated`: whether the device was.
    """

    cosine: float
    mae: float
    gate: DocumentedGate | None = None
    emulated: bool = False

    @classmethod
    def of_gate(cls, gate: DocumentedGate, *, emulated: bool) -> OutputComparison:
        """The numbers of the documented tables."""
        return cls(gate.mean_cosine, gate.mae, gate, emulated)

    @classmethod
    def of_outputs(
        cls, cosines: Sequence[float], maes: Sequence[float], *, emulated: bool
    ) -> OutputComparison:
        """The numbers without a classifier, from the smallest cosine and the MAE of each output."""
        if not cosines:
            return cls(math.nan, math.nan, emulated=emulated)
        # NaN, where one is.
        return cls(float(np.min(cosines)), float(np.max(maes)), emulated=emulated)

    @property
    def error_rate_percent(self) -> float | None:
        """(1 - mean cosine) x 100, in percent; None without a classifier."""
        return self.gate.error_rate_percent if self.gate is not None else None

    @property
    def flips(self) -> tuple[ImageRow, ...]:
        """The images whose Top-1 differs; none without a classifier."""
        return tuple(row for row in self.gate.rows if not row.match) if self.gate else ()

    def message(self, failed: str) -> str:
        """What a failed test says: `failed`, then all numbers, one a line, as in torch.testing."""
        failed += " [EMULATED]" * self.emulated
        return "\n".join([failed, "", *(self._of_classes() if self.gate else self._of_values())])

    def _of_values(self) -> list[str]:
        return [
            f"Smallest cosine similarity: {self.cosine:.9g} (values as returned)",
            f"Greatest mean absolute error: {self.mae:.6g}",
            "No classifier: there is no Top-1, and no error rate.",
        ]

    def _of_classes(self) -> list[str]:
        gate, flips = self.gate, self.flips
        assert gate is not None
        least = gate.rows[int(np.argmin([row.cosine for row in gate.rows]))]
        furthest = gate.rows[int(np.argmax([row.max_abs_error for row in gate.rows]))]
        return [
            f"Mismatched Top-1: {len(flips)} / {gate.images} "
            f"({100.0 * len(flips) / gate.images:.1f}%)",
            *(
                f"Top-1 at {_image(row)}: {row.cpu_top1} on the CPU, {row.device_top1} on the "
                "device"
                for row in flips
            ),
            f"Greatest absolute difference: {furthest.max_abs_error:.6g} at {_image(furthest)} "
            "(logits)",
            f"Smallest cosine similarity: {least.cosine:.9g} at {_image(least)} (softmax "
            "probabilities)",
            f"Mean cosine similarity: {gate.mean_cosine:.9g}",
            f"Mean absolute error: {gate.mae:.6g}",
            f"Error rate: {gate.error_rate_percent:.6g} %",
        ]


def compare(
    reference: Mapping[str, Array],
    candidate: Mapping[str, Array],
    logits: str | None,
    labels: Sequence[str],
    *,
    emulated: bool,
) -> OutputComparison:
    """Compare outputs, name -> [N, ...], of the CPU and the device.

    `logits`: the name of the classifier's, None without one; `labels`: a name for each image.
    Outputs of whole numbers are left out, which the verdict compares exactly.  Raises ValueError
    for shapes that differ.
    """
    if logits is not None:
        # In float64, as the verdict has them: so the numbers are the record's.
        cpu, device = (np.asarray(side[logits], np.float64) for side in (reference, candidate))
        return OutputComparison.of_gate(documented_gate(cpu, device, labels), emulated=emulated)
    floats = whole_numbers.without(reference, whole_numbers.names(reference))
    pairs = [metrics.Pair.of(values, candidate[name]) for name, values in floats.items()]
    return OutputComparison.of_outputs(
        [float(np.min(metrics.cosines_with_zeros(pair))) for pair in pairs],
        [pair.mean_absolute for pair in pairs],
        emulated=emulated,
    )


def _image(row: ImageRow) -> str:
    return f"image {row.image} ({row.label})"
