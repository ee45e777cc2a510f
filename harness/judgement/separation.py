"""Could this case have failed?  Whether the outputs that the verdict uses tell the images apart."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence

from harness.judgement import budget, metrics
from harness.judgement.budget import Allowance, OutputBudget
from harness.system.messages import Said, say
from harness.system.status import Finding, Stage, Status

# Budget in units of the spread between images: from half of it on, noise and signal are alike.
NOISE_LIMIT = 0.5
# Distance of two images in units of the greatest error that either may have.
SEPARATION_LIMIT = 1.0


@dataclasses.dataclass(frozen=True)
class Separation:
    """How far the two images that are most alike are apart, in an output that shows it.

    `distance`: rmse between the float64 outputs of images `first` and `second`, in units of the
    greatest error that passes for either (limit x the greater of both budgets); `output`: in which,
    the smallest that tells them apart, else the one that comes nearest to it.
    From 1 on a device that gave one image's result for the other would fail.
    """

    distance: float
    first: int
    second: int
    output: str


def separation(allowed: Mapping[str, Allowance]) -> Separation | None:
    """Measure it over all outputs; None for fewer than two images.  `allowed`: by output."""
    outputs = sorted(allowed.items(), key=lambda item: item[1].oracle.size)
    pairs = itertools.combinations(range(len(outputs[0][1].oracle)), 2)
    found = (_of_pair(outputs, *pair) for pair in pairs)
    return min(found, key=lambda one: one.distance, default=None)


def _of_pair(outputs: list[tuple[str, Allowance]], first: int, second: int) -> Separation:
    best = Separation(-1.0, first, second, "")
    for name, own in outputs:
        distance = _distance(own, first, second)
        if distance > best.distance:
            best = Separation(distance, first, second, name)
        if distance > SEPARATION_LIMIT:
            break
    return best


def _distance(own: Allowance, first: int, second: int) -> float:
    apart = budget.image_rmse(own.oracle[first : first + 1], own.oracle[second : second + 1])[0]
    passes = own.limit * float(max(own.images[first], own.images[second]))
    return metrics.quotient(float(apart), passes)


def judge(
    found: Separation | None,
    labels: Sequence[str],
    budgets: Sequence[OutputBudget],
    arithmetic: str,
) -> list[Finding]:
    """Reasons for which this case could not have failed; the format's noise leads where it is one.

    `labels`: one per image; `arithmetic`: what the device declares, to show.
    """
    if found is None:
        reason = say(
            "separation.one",
            "One image only: nothing shows that the output depends on the image. Give two or more.",
        )
        return [Finding(Status.INCONCLUSIVE, Stage.REFERENCE, reason)]
    reasons = [
        say(
            "separation.same",
            "Output {name!r} is the same for all images: it would be, whatever they show.",
            name=row.name,
        )
        if not math.isfinite(row.budget_nrmse)
        else say(
            "separation.noise",
            "Output {name!r}: the noise of {arithmetic} (nrmse {nrmse}) is as large as the "
            "differences between the images, so that an error of that size proves nothing.",
            name=row.name,
            arithmetic=arithmetic,
            nrmse=f"{row.budget_nrmse:.3g}",
        )
        for row in budgets
        if not row.budget_nrmse < NOISE_LIMIT
    ]
    if not found.distance > SEPARATION_LIMIT:
        reasons.append(
            say(
                "separation.pair",
                "Images {first} and {second} give outputs that differ by {distance} times what "
                "{arithmetic} may cost (at best, in {output!r}): the result of one for the other "
                "would pass, so a pass means nothing. Use other images or weights that "
                "discriminate.",
                first=f"{found.first} ({labels[found.first]})",
                second=f"{found.second} ({labels[found.second]})",
                distance=f"{found.distance:.3g}",
                arithmetic=arithmetic,
                output=found.output,
            )
        )
    return [Finding(Status.INCONCLUSIVE, Stage.REFERENCE, reason) for reason in reasons]


def blindness(measured: metrics.Discrimination | None, limit: float) -> list[Said]:
    """A note where the protocol's gate could not have failed; `limit`: of the softmax cosine."""
    if measured is None or measured.images < 2 or measured.max_cosine < limit:
        return []
    return [
        say(
            "gate.blind",
            "The protocol's gate is blind here: two different images give softmax outputs with "
            "cosine {cosine} on the CPU ({distinct} different Top-1 in {images} images), so that "
            "it could not tell them apart. The verdict uses logits and features, which can.",
            cosine=f"{measured.max_cosine:.6f}",
            distinct=measured.distinct_top1,
            images=measured.images,
        )
    ]
