"""Outputs of whole numbers (indices, masks, flags): compared exactly, since nothing is rounded.

Where honest runs on the CPU differ among themselves (the dtype of the case, float64, the declared
arithmetic) rounding decides the number, as in an argmax of near ties, and the device may have any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.judgement.batchings import WAYS
from harness.judgement.metrics import Array
from harness.system.messages import Said, say
from harness.system.status import Finding, Stage, Status

Outputs = Mapping[str, Array]


def names(outputs: Outputs) -> frozenset[str]:
    """Outputs that hold integers or booleans."""
    return frozenset(name for name, array in outputs.items() if array.dtype.kind in "iub")


def without(outputs: Outputs, left_out: frozenset[str]) -> dict[str, Array]:
    """All outputs but those named."""
    return {name: array for name, array in outputs.items() if name not in left_out}


def judge(
    reference: Outputs,
    candidate: Outputs,
    honest: Sequence[Outputs],
    variants: Mapping[str, Outputs],
) -> tuple[list[Finding], list[Said]]:
    """Findings and notes; arrays [N, ...], of a variant [M, ...], row r of image r modulo N.

    `honest`: further runs on the CPU, [N, ...] each; `variants`: the device's other ways to batch.
    """
    findings, notes = [], []
    for name in sorted(names(reference)):
        expected = reference[name]
        settled = np.ones(expected.shape, bool)
        for run in honest:
            settled &= np.asarray(run[name] == expected)
        given = {"": candidate[name], **{way: run[name] for way, run in variants.items()}}
        wrong = [
            finding
            for way, array in given.items()
            if (finding := _differing(name, way, array, expected, settled)) is not None
        ]
        findings += wrong
        if not wrong:
            open_ones = int(settled.size - np.count_nonzero(settled))
            english = "Output {name!r} holds whole numbers: all {size} are the CPU's{left}."
            left = say("whole.left", ", but {count} that rounding decides", count=open_ones)
            notes.append(
                say(
                    "whole.equal",
                    english,
                    name=name,
                    size=settled.size,
                    left=left if open_ones else "",
                )
            )
    return findings, notes


def _differing(
    name: str, way: str, array: Array, expected: Array, settled: Array
) -> Finding | None:
    if array.shape[1:] != expected.shape[1:] or len(array) < len(expected):
        reason = say(
            "whole.shape",
            "Output {name!r} has shape {shape} on the device{where}.",
            name=name,
            shape=list(array.shape),
            where=_where(way),
        )
        return Finding(Status.FAIL_SHAPE, Stage.COMPARE, reason)
    images = np.arange(len(array)) % len(expected)
    wrong = np.argwhere(settled[images] & (array != expected[images]))
    if not len(wrong):
        return None
    at = tuple(int(index) for index in wrong[0])
    image = (int(images[at[0]]), *at[1:])
    return Finding(
        Status.FAIL_ACCURACY,
        Stage.COMPARE,
        say(
            "whole.differ",
            "Output {name!r} holds whole numbers, which must be equal: {count} of {size} "
            "differ{where}, the first at index {at}: {got} on the device, {want} in every run on "
            "the CPU.",
            name=name,
            count=len(wrong),
            size=array.size,
            where=_where(way),
            at=list(at),
            got=array[at],
            want=expected[image],
        ),
    )


def _where(way: str) -> str:
    return say("whole.way", " when the images run {way}", way=WAYS[way]) if way else ""
