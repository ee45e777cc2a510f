"""What exceeds a limit, as findings: budgets, operators, Top-1 flips, the documented error rate."""

from __future__ import annotations

import numpy as np

from harness.judgement import budget
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.budget import Allowance, OutputBudget
from harness.judgement.documented import ERROR_RATE_LIMIT_PERCENT, DocumentedGate
from harness.judgement.metrics import Array
from harness.judgement.operator_rows import OperatorCheck
from harness.system.messages import Said, join, say
from harness.system.status import Finding, Stage, Status

_FLIP_SIGMAS = 4.0


def _wrong(reason: Said) -> Finding:
    return Finding(Status.FAIL_ACCURACY, Stage.COMPARE, reason)


def judge_budget(row: OutputBudget, arithmetic: Arithmetic) -> list[Finding]:
    """An output beyond its budget."""
    if row.within:
        return []
    image = int(np.argmax(row.image_ratios))
    what = (
        say("budget.float32", "the CPU's own float32 error")
        if arithmetic.full
        else say("budget.costs", "what {arithmetic} costs", arithmetic=arithmetic)
    )
    text = say(
        "budget",
        "Output {name!r}: the error against float64 is {ratio} times {what} on this model and "
        "these images (worst image {image}: {worst} times), allowed is {limit} times; nrmse "
        "{nrmse}, budget {budget}.",
        name=row.name,
        ratio=f"{row.ratio:.3g}",
        what=what,
        image=image,
        worst=f"{row.image_ratios[image]:.3g}",
        limit=f"{row.limit:g}",
        nrmse=f"{row.device.nrmse:.3g}",
        budget=f"{row.budget_nrmse:.3g}",
    )
    if row.worst_slice is not None and not row.slice_ratio <= row.limit:
        dimension, index = row.worst_slice
        text = join(
            text,
            say(
                "budget.slice",
                "Index {index} of dimension {dimension} alone is {ratio} times beyond what chance "
                "explains there.",
                index=index,
                dimension=dimension,
                ratio=f"{row.slice_ratio:.3g}",
            ),
        )
    return [_wrong(text)]


def judge_operators(check: OperatorCheck | None) -> list[Finding]:
    """Each operator on the reference's own input, where a format's noise has not piled up."""
    if check is None or not check.culprits:
        return []
    first = check.worst[0]
    text = say(
        "operators",
        "{culprits} of {compared} operators compared one by one exceed what their format costs; "
        "worst is {operator} in {module} (operator {index}{source}): {ratio} times its budget, its "
        "worst slice {slice_ratio} times ({slice}), {nonfinite} NaN or infinite values.",
        culprits=check.culprits,
        compared=check.compared,
        operator=first.operator,
        module=first.module,
        index=first.index,
        source=f", {first.source}" if first.source else "",
        ratio=f"{first.ratio:.3g}",
        slice_ratio=f"{first.worst_slice_ratio:.3g}",
        slice=first.worst_slice or say("operators.all", "all of it"),
        nonfinite=first.nonfinite,
    )
    if (method := first.method) is not None:
        text = join(text, str(method))
        if check.culprits > 1:
            text = join(
                text,
                say(
                    "operators.of_them_as_cann",
                    "Of the {culprits} there are {count} as CANN computes them.",
                    culprits=check.culprits,
                    count=check.as_cann,
                ),
            )
    return [_wrong(text)]


def judge_zeros(name: str, norm_ratio: float) -> list[Finding]:
    """Zeros instead of values, where no budget judges them."""
    if norm_ratio == 0:
        return [_wrong(say("zeros.device", "Output {name!r} is all zero on the device alone.",
                           name=name))]  # fmt: skip
    if norm_ratio == np.inf:
        return [_wrong(say("zeros.cpu", "Output {name!r} is all zero on the CPU alone.",
                           name=name))]  # fmt: skip
    return []


def judge_flips(
    reference: Array,
    candidate: Array,
    as_asked: Array | None,
    gate: DocumentedGate,
    allowed: Allowance,
) -> tuple[list[Finding], list[Said]]:
    """Findings and notes: a Top-1 flip counts when no allowed error explains it.

    `reference`, `candidate`, `as_asked`: logits [N, C] of the CPU, of the device, and in float64
    with GELU in the form that the model asks for, where that is another.

    The device swapped two classes whose logits on the CPU differ by `gap`.  The difference of
    two errors of the size seen (at most the size allowed) has a standard deviation of sqrt(2)
    times that size; beyond four of them rounding is no explanation.
    """
    seen = budget.image_rmse(allowed.oracle, candidate)
    errors = np.minimum(np.maximum(seen, allowed.images), allowed.limit * allowed.images)
    if as_asked is not None:  # the CPU's Top-1 is that of the form that was asked for
        errors = errors + budget.image_rmse(as_asked, allowed.oracle)
    found, notes = [], []
    for row in gate.rows:
        if row.match:
            continue
        logits = reference[row.image]
        gap = float(logits[row.cpu_top1]) - float(logits[row.device_top1])
        explained = _FLIP_SIGMAS * np.sqrt(2.0) * float(errors[row.image])
        text = say(
            "flip",
            "Top-1 of image {image} ({label}) is {cpu} on the CPU and {device} on the device; on "
            "the CPU these two logits differ by {gap}, and the allowed error explains up to "
            "{explained}.",
            image=row.image,
            label=row.label,
            cpu=row.cpu_top1,
            device=row.device_top1,
            gap=f"{gap:.3g}",
            explained=f"{explained:.3g}",
        )
        if gap <= explained:
            notes.append(text)
        else:
            found.append(_wrong(text))
    return found, notes


def judge_gate(gate: DocumentedGate, *, within: bool) -> list[Finding]:
    """The documented error rate; `within`: whether everything else is as the format allows."""
    if gate.error_rate_percent < ERROR_RATE_LIMIT_PERCENT:
        return []
    bad = min(gate.rows, key=lambda row: row.cosine)
    reason = say(
        "gate",
        "Error rate {rate} % (softmax probabilities), allowed is less than {limit} %; worst is "
        "image {image} ({label}) with cosine {cosine}.",
        rate=f"{gate.error_rate_percent:.4g}",
        limit=ERROR_RATE_LIMIT_PERCENT,
        image=bad.image,
        label=bad.label,
        cosine=f"{bad.cosine:.6f}",
    )
    if within:
        # The device computes as its format must: no fault is shown, and no port accepted either.
        reason = join(
            reason,
            say(
                "gate.format",
                "The device's error is what its declared arithmetic costs: choose a more exact "
                "one (--numerics strict, --dtype float32), or keep some modules in float32 "
                "(python -m harness prescribe).",
            ),
        )
    return [Finding(Status.INCONCLUSIVE if within else Status.FAIL_ACCURACY, Stage.COMPARE, reason)]
