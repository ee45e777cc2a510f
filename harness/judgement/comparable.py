"""Whether outputs can be compared at all: the same names and shapes, and finite numbers.

Pure functions over NumPy arrays [N, ...], N = number of images.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from harness.judgement import metrics
from harness.judgement.metrics import Array
from harness.system.messages import Said, say
from harness.system.status import Finding, Stage, Status


def mismatches(
    reference: Mapping[str, Array], candidate: Mapping[str, Array], images: int
) -> list[Finding]:
    """Outputs that are missing on one side, of another shape or empty; `images`: how many."""

    def finding(reason: Said) -> Finding:
        return Finding(Status.FAIL_SHAPE, Stage.COMPARE, reason)

    found = []
    if not reference:
        found.append(
            finding(
                say(
                    "shape.none",
                    "The model gave no output on the CPU: there is nothing to compare.",
                )
            )
        )
    for name in reference.keys() - candidate.keys():
        text = say("shape.missing", "Output {name!r} is missing on the device.", name=name)
        found.append(finding(text))
    for name in candidate.keys() - reference.keys():
        english = "Output {name!r} exists on the device but not on the CPU."
        found.append(finding(say("shape.more", english, name=name)))
    for name in reference.keys() & candidate.keys():
        want, got = reference[name].shape, candidate[name].shape
        if want != got:
            found.append(
                finding(
                    say(
                        "shape.differs",
                        "Output {name!r} has shape {got} on the device but {want} on the CPU.",
                        name=name,
                        got=list(got),
                        want=list(want),
                    )
                )
            )
        elif not want or want[0] != images:
            found.append(
                finding(
                    say(
                        "shape.images",
                        "Output {name!r} has shape {want}: its first dimension must be the "
                        "{images} images.",
                        name=name,
                        want=list(want),
                        images=images,
                    )
                )
            )
        elif 0 in want:
            english = "Output {name!r} of shape {want} has no elements."
            found.append(finding(say("shape.empty", english, name=name, want=list(want))))
    return sorted(found, key=lambda f: f.reason)


def nonfinite(reference: Mapping[str, Array], candidate: Mapping[str, Array]) -> list[Finding]:
    """Outputs with NaN or infinite values on either side."""
    found = []
    for name in reference:
        on_cpu = metrics.count_nonfinite(reference[name])
        on_device = metrics.count_nonfinite(candidate[name])
        size = reference[name].size
        if on_cpu:
            # Also when both sides agree: NaN against NaN proves nothing about the device.
            found.append(
                Finding(
                    Status.FAIL_REFERENCE,
                    Stage.REFERENCE,
                    say(
                        "nan.cpu",
                        "Output {name!r} has {count} NaN or infinite values of {size} on the CPU "
                        "itself: look at the weights and inputs before judging a device.",
                        name=name,
                        count=on_cpu,
                        size=size,
                    ),
                )
            )
        if on_device:
            where = np.argwhere(~np.isfinite(candidate[name]))[0].tolist()
            value = candidate[name][tuple(where)]
            found.append(
                Finding(
                    Status.FAIL_NAN,
                    Stage.COMPARE,
                    say(
                        "nan.device",
                        "Output {name!r} has {count} NaN or infinite values of {size} on the "
                        "device, the first ({value}) at index {where}; the CPU has {on_cpu}.",
                        name=name,
                        count=on_device,
                        size=size,
                        value=value,
                        where=where,
                        on_cpu=on_cpu,
                    ),
                )
            )
    return found
