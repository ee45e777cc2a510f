"""Published accuracy beside ours: a row of timm's validate.py and a labelled run."""

from __future__ import annotations

import math
from typing import Any

from harness.judgement import task_accuracy as judgement
from harness.records.task_accuracy import TOP
from harness.records.task_accuracy_result import Result
from harness.records.timm_results import Published
from harness.report.tables import cells
from harness.report.tables.cells import Table
from harness.report.task_accuracy import BESIDE, device_of


def table(row: Published, result: Result) -> Table:
    """Top-1 and Top-5: published, and of both sides; the run has images."""
    counts, whole = result.counts, result.counts.images
    title = f"Published accuracy of {row.model}, beside {whole} images"
    return Table(
        cells.mark(title, result.run.emulated),
        ("", "published", "CPU, float32", device_of(result.run)),
        (
            ("Top-1", f"{row.top1:.3f} %", _of(counts.cpu_right, whole),
             _of(counts.device_right, whole)),
            (f"Top-{TOP}", f"{row.top5:.3f} %", _of(counts.cpu_top5, whole),
             _of(counts.device_top5, whole)),
        ),
    )  # fmt: skip


def differences(row: Published, result: Result) -> list[str]:
    """What was preprocessed otherwise there; accuracies cannot be compared then."""
    config = result.run.preprocessing
    pairs = (
        ("img_size", row.img_size, config.get("input_size", [0])[-1]),
        ("crop_pct", row.crop_pct, config.get("crop_pct", 0.0)),
        ("interpolation", row.interpolation, config.get("interpolation", "none")),
    )
    return [
        f"{name} {theirs} there, {ours} here"
        for name, theirs, ours in pairs
        if not (
            math.isclose(theirs, ours, abs_tol=5e-4)  # published with three digits
            if isinstance(theirs, float)
            else theirs == ours
        )
    ]


def lines(row: Published, result: Result) -> list[str]:
    """Whether both are of one preprocessing, whether the CPU confirms it, and what this is not."""
    counts = result.counts
    low, high = judgement.share_interval(counts.cpu_right, counts.images)
    said = []
    if different := differences(row, result):
        said.append(f"Another preprocessing, so not comparable: {'; '.join(different)}.")
    fits = low <= row.top1 / 100 <= high
    said.append(
        f"The published Top-1 is {'within' if fits else 'outside'} the 95 % interval of the CPU's "
        f"here, {cells.share(low)} to {cells.share(high)}"
        + (
            "."
            if fits
            else ": other images, other weights or another preprocessing, no matter of the device."
        )
        + cells.caveat(result.run.emulated)
    )
    return [*said, BESIDE]


def document(row: Published, result: Result) -> dict[str, Any]:
    """The same as JSON; shares, not percent."""
    counts, whole = result.counts, result.counts.images
    return {
        "kind": "published accuracy",
        "emulated": result.run.emulated,
        "model": row.model,
        "published": {"top1": row.top1 / 100, "top5": row.top5 / 100},
        "images": whole,
        "cpu": {"top1": counts.cpu_right / whole, "top5": counts.cpu_top5 / whole},
        "device": {"top1": counts.device_right / whole, "top5": counts.device_top5 / whole},
        "status": result.status.value,
        "preprocessed_otherwise": differences(row, result),
        "said": lines(row, result),
    }


def _of(right: int, whole: int) -> str:
    return f"{cells.share(right / whole, 3)} ({right}/{whole})"
