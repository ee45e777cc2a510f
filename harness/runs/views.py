"""What a record shows of its images: small pictures, and the likeliest classes of both sides."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from harness.cases.inputs import InputSet
from harness.cases.models.model_files import ModelFiles
from harness.execution.legs import LegRequest, LegResult
from harness.execution.sides import Sides
from harness.judgement import metrics
from harness.judgement.metrics import Array
from harness.records.views import MOST_VIEWS, Guess, ImageView
from harness.system.status import CaseProblem

_GUESSES = 5


def made(
    sides: Sides, request: LegRequest, reference: LegResult, candidate: LegResult
) -> tuple[ImageView, ...]:
    """Show up to six images of a case, of more those whose Top-1 differs before others.

    None of a module of the user's own, nor where the pictures cannot be made: a case is judged
    without them.
    """
    model, inputs, logits = request.model, request.inputs, reference.logits
    if not (isinstance(model, ModelFiles) and isinstance(inputs, InputSet)):
        return ()
    found = [leg.outputs.get(logits or "") for leg in (reference, candidate)]
    cpu, device = (None if a is None or a.ndim != 2 else _likeliest(a) for a in found)
    images = range(inputs.count)
    if cpu is None or device is None or len(cpu[0]) != len(device[0]):
        classes, chosen, named = 0, list(images[:MOST_VIEWS]), set[int]()
        cpu = device = None
    else:
        equal = [cpu[0][image][0] == device[0][image][0] for image in images]
        chosen = sorted(sorted(images, key=lambda image: equal[image])[:MOST_VIEWS])
        assert found[0] is not None
        classes = found[0].shape[1]
        named = {int(index) for side in (cpu, device) for index in side[0][chosen].flat}
    try:
        jpegs, names = sides.cpu.pictures(model, inputs, chosen, classes, named)
    except CaseProblem:
        return ()
    return tuple(
        ImageView(
            image,
            jpeg,
            *(() if side is None else _guesses(*side, image, names) for side in (cpu, device)),
        )
        for image, jpeg in zip(chosen, jpegs, strict=True)
    )


def _likeliest(outputs: Array) -> tuple[Array, Array]:
    """Indices and probabilities of the most probable classes of each image, [N, 5]."""
    shares = metrics.probabilities(outputs)
    order = np.argsort(-shares, axis=1, kind="stable")[:, :_GUESSES]
    return order, np.take_along_axis(shares, order, axis=1)


def _guesses(
    order: Array, shares: Array, image: int, names: Mapping[int, str]
) -> tuple[Guess, ...]:
    return tuple(
        Guess(int(index), names[int(index)], float(share))
        for index, share in zip(order[image], shares[image], strict=True)
    )
