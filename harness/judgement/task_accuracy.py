"""Task accuracy: are a device's answers to labelled images as often right as the CPU's?

Both sides answer the same images, so that the images on which one of them is right and the other is
wrong decide.  McNemar (Psychometrika 12, 1947): if both sides are equally good, such an image is
lost or gained with the same chance; the exact test is the two-sided binomial one.  The difference
has the interval of Agresti and Min (Statistics in Medicine 24, 2005): Wald's, with half an image
added to each of the four cells, which keeps its level where few images differ, or none.

This says nothing about drift, which a handful of unlabelled images shows (`verdict`): an error that
no answer depends on is invisible here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from harness.system.messages import Said, say
from harness.system.status import Finding, Stage, Status, worst

# Chance that an equally good device fails, or that a side that guesses counts as one that does not.
ACCURACY_ALARM_LEVEL = 0.01
CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Counts:
    """How many images; sums of parts are those of the whole.

    `both_right`: of the images that each side has right; `agree`: with the same Top-1, right or
    wrong; `broken`: whose logits are not finite on a side, which counts as wrong there.
    """

    images: int = 0
    cpu_right: int = 0
    device_right: int = 0
    both_right: int = 0
    cpu_top5: int = 0
    device_top5: int = 0
    agree: int = 0
    cpu_broken: int = 0
    device_broken: int = 0

    def __add__(self, other: Counts) -> Counts:
        fields = (field.name for field in dataclasses.fields(self))
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in fields})

    @property
    def lost(self) -> int:
        """Right on the CPU alone."""
        return self.cpu_right - self.both_right

    @property
    def gained(self) -> int:
        """Right on the device alone."""
        return self.device_right - self.both_right

    @property
    def flipped(self) -> int:
        """With another Top-1."""
        return self.images - self.agree


def mcnemar(lost: int, gained: int) -> float:
    """Two-sided p of McNemar's exact test; 1 where no image differs."""
    if lost + gained == 0:
        return 1.0
    from scipy.stats import binomtest  # here: it would take a good part of every start

    return float(binomtest(lost, lost + gained, 0.5).pvalue)


def difference_interval(lost: int, gained: int, images: int) -> tuple[float, float]:
    """Bounds of the device's accuracy less the CPU's, as shares, at 95 %; by Agresti and Min.

    With b = lost + 1/2, c = gained + 1/2 and n = images + 2:
    (c - b) / n +- z sqrt(b + c - (c - b)^2 / n) / n.
    """
    from scipy.stats import norm

    b, c, n = lost + 0.5, gained + 0.5, images + 2
    middle = (c - b) / n
    half = float(norm.ppf((1 + CONFIDENCE) / 2)) * math.sqrt(b + c - (c - b) ** 2 / n) / n
    return max(-1.0, middle - half), min(1.0, middle + half)


def share_interval(right: int, images: int) -> tuple[float, float]:
    """Wilson's interval of one side's accuracy, as shares, at 95 %."""
    from scipy.stats import binomtest

    found = binomtest(right, images).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def least_right() -> int:
    """Images that the CPU must have right before a device that loses all of them could fail."""
    return next(n for n in range(1, 100) if mcnemar(n, 0) < ACCURACY_ALARM_LEVEL)


def judge(counts: Counts, classes: int, fallback: Sequence[str] = ()) -> list[Finding]:
    """What counts against the device, or limits what can be said; empty for a pass.

    `classes`: of the model; `fallback`: operators that ran on the CPU instead of the device.
    """
    found = []
    if counts.cpu_broken:
        found.append(
            _finding(
                Status.FAIL_REFERENCE,
                say(
                    "task.cpu_broken",
                    "The CPU itself gives NaN or infinite logits for {count} of {images} images.",
                    count=counts.cpu_broken,
                    images=counts.images,
                ),
            )
        )
    if counts.device_broken:
        found.append(
            _finding(
                Status.FAIL_NAN,
                say(
                    "task.device_broken",
                    "The device gives NaN or infinite logits for {count} of {images} images.",
                    count=counts.device_broken,
                    images=counts.images,
                ),
            )
        )
    if fallback:
        found.append(
            _finding(
                Status.FAIL_FALLBACK,
                say(
                    "task.fallback",
                    "Ran on the CPU instead of the device: {operators}. These answers are not the "
                    "device's alone.",
                    operators=", ".join(fallback),
                ),
            )
        )
    p = mcnemar(counts.lost, counts.gained)
    if counts.lost > counts.gained and p < ACCURACY_ALARM_LEVEL:
        found.append(
            _finding(
                Status.FAIL_ACCURACY,
                say(
                    "task.worse",
                    "Top-1 is worse on the device than chance explains: of {images} images {lost} "
                    "are right on the CPU alone and {gained} on the device alone (McNemar's exact "
                    "test: p = {p}, the limit is {limit}).",
                    images=counts.images,
                    lost=counts.lost,
                    gained=counts.gained,
                    p=f"{p:.2g}",
                    limit=f"{ACCURACY_ALARM_LEVEL:g}",
                ),
            )
        )
    return found or _limits(counts, classes)


def status(findings: Sequence[Finding]) -> Status:
    """The status that findings give; pass without any."""
    return worst(one.status for one in findings) if findings else Status.PASS


def _limits(counts: Counts, classes: int) -> list[Finding]:
    """Whether the comparison could have failed at all."""
    least = least_right()
    if counts.cpu_right < least:
        return [
            _finding(
                Status.INCONCLUSIVE,
                say(
                    "task.few_right",
                    "The CPU has {right} of {images} images right: with fewer than {least} no "
                    "device can be shown to be worse. Give more images, or correct the labels.",
                    right=counts.cpu_right,
                    images=counts.images,
                    least=least,
                ),
            )
        ]
    from scipy.stats import binomtest

    by_chance = binomtest(counts.cpu_right, counts.images, 1 / classes, alternative="greater")
    if by_chance.pvalue >= ACCURACY_ALARM_LEVEL:
        return [
            _finding(
                Status.INCONCLUSIVE,
                say(
                    "task.guesses",
                    "The CPU itself is right no more often than by guessing among {classes} "
                    "classes ({right} of {images}): the labels do not belong to this model, or "
                    "its weights are not trained.",
                    classes=classes,
                    right=counts.cpu_right,
                    images=counts.images,
                ),
            )
        ]
    return []


def _finding(status: Status, reason: Said) -> Finding:
    return Finding(status, Stage.COMPARE, reason)
