"""The same images batched in other ways: each result must be as right as before."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Set

import numpy as np

from harness.judgement import budget, comparable, metrics
from harness.judgement.budget import Allowance
from harness.judgement.metrics import Array
from harness.system.messages import say
from harness.system.status import Finding, Stage, Status

# Ways to batch the same images, as `legs.py` names them and as they are said.
WAYS = {
    "permuted": say("way.permuted", "in reverse order"),
    "alone": say("way.alone", "one by one"),
    "full": say("way.full", "repeated to fill the declared batch"),
}


@dataclasses.dataclass(frozen=True)
class WrongBatching:
    """A way to batch the images in which alone an output is wrong, and its worst image."""

    way: str
    image: int


def judge(
    variants: Mapping[str, Mapping[str, Array]],
    reference: Mapping[str, Array],
    allowed: Mapping[str, Allowance],
    right: Set[str],
) -> tuple[list[Finding], WrongBatching | None]:
    """Judge the device's outputs of every other way; arrays [N, ...], of "full" [M, ...].

    `reference`, `allowed`: by output, [N, ...]; `right`: outputs that are within their budget as
    one batch; of the others it says nothing.  The second answer is of the first wrong way.
    """
    found: list[Finding] = []
    first = None
    images = len(next(iter(reference.values())))
    for way, given in variants.items():
        outputs = {
            name: _worst_rows(allowed[name].oracle, values)
            # Every image several times: its worst row stands for it.
            if way == "full" and name in allowed and _fits(values, allowed[name].oracle)
            else values
            for name, values in given.items()
        }
        for problem in comparable.mismatches(reference, outputs, images):
            reason = say("batching", "{way}: {reason}", way=WAYS[way], reason=problem.said)
            found.append(dataclasses.replace(problem, reason=reason))
        for name, values in outputs.items():
            if name not in allowed or values.shape != allowed[name].oracle.shape:
                continue
            finding = _judge(way, name, values, allowed[name], name in right)
            if finding is None:
                continue
            found.append(finding)
            if first is None:
                errors = budget.image_rmse(allowed[name].oracle, values) / allowed[name].images
                first = WrongBatching(way, int(np.argmax(np.nan_to_num(errors, nan=np.inf))))
    return found, first


def _judge(way: str, name: str, values: Array, allowed: Allowance, right: bool) -> Finding | None:
    ratio = budget.worst_ratio(values, allowed)
    if not np.isfinite(ratio) and metrics.count_nonfinite(values):
        reason = say(
            "batching.nan",
            "Output {name!r} has NaN or infinite values when the images run {way}, and none when "
            "they run as one batch.",
            name=name,
            way=WAYS[way],
        )
        return Finding(Status.FAIL_NAN, Stage.COMPARE, reason)
    if right and not ratio <= allowed.limit:
        reason = say(
            "batching.budget",
            "Output {name!r} is {ratio} times its budget when the images run {way} (allowed "
            "{limit}): the result of an image depends on its batch.",
            name=name,
            ratio=f"{ratio:.3g}",
            way=WAYS[way],
            limit=f"{allowed.limit:g}",
        )
        return Finding(Status.FAIL_ACCURACY, Stage.COMPARE, reason)
    return None


def _fits(values: Array, oracle: Array) -> bool:
    return values.shape[1:] == oracle.shape[1:] and len(values) >= len(oracle)


def _worst_rows(oracle: Array, values: Array) -> Array:
    """Of an image's rows the one with the greatest error, or a NaN; values [M, ...] -> [N, ...].

    `oracle`: [N, ...]; row r of `values` is of image r modulo N, M >= N.
    """
    chosen = []
    for image, exact in enumerate(oracle):
        rows = values[image :: len(oracle)]
        if len(rows) == 1:
            chosen.append(rows[0])
            continue
        errors = budget.image_rmse(np.broadcast_to(exact, rows.shape), rows)
        chosen.append(rows[int(np.argmax(np.nan_to_num(errors, nan=np.inf)))])
    return np.stack(chosen)
