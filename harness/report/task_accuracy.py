"""A labelled run as tables and lines, as JSON, and as CSV with a row an image."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.devices.spec import EMULATED_MEANS
from harness.judgement import task_accuracy as judgement
from harness.records import task_accuracy as records
from harness.records.task_accuracy import TaskEnd, TaskRun
from harness.records.task_accuracy_result import KINDS, Result
from harness.report import spreadsheet
from harness.report.tables import cells
from harness.report.tables.cells import Table
from harness.report.text import render_table
from harness.system import files, shown
from harness.system.status import Status

# The one sentence about what this is not.
BESIDE = (
    "Task accuracy stands beside the verdict on drift, never instead of it: an error that changes "
    "no answer is invisible here. `python -m harness run --model DIR` gives that verdict."
)
COLUMNS = {
    "image": "name within the set",
    "label": "class that is right, as index",
    "label_name": "its name",
    "read": "`true`, or `false` where the file could not be read: it counts on neither side",
    "cpu_top1": "the CPU's most probable class",
    "cpu_top1_name": "its name",
    "cpu_probability": "softmax of it",
    "device_top1": "the device's most probable class",
    "device_top1_name": "its name",
    "device_probability": "softmax of it",
    "cpu_right": "whether the CPU's Top-1 is the label",
    "device_right": "whether the device's is",
    "cpu_in_top5": "whether the label is among the CPU's five most probable classes",
    "device_in_top5": "whether it is among the device's",
    "flipped": "whether the two Top-1 differ",
    "reason": "why it could not be read",
    "emulated": "`true` where the device was emulated: no evidence about NPU hardware",
}


def tables(result: Result) -> list[Table]:
    """Accuracy of both sides, and what their disagreements say; none without an image."""
    run, counts = result.run, result.counts
    if not counts.images:
        return []
    whole = counts.images
    title = f"Task accuracy of {run.model} on {run.dataset}, {whole} labelled images"
    sides = [("Top-1", counts.cpu_right, counts.device_right)]
    if len(run.classes) > records.TOP:
        sides.append((f"Top-{records.TOP}", counts.cpu_top5, counts.device_top5))
    accuracy = Table(
        cells.mark(title, run.emulated),
        ("", "CPU, float32", f"{device_of(run)}, {run.dtype} {run.numerics}", "difference"),
        tuple(
            (
                name,
                _side(ours, whole),
                _side(theirs, whole),
                f"{cells.share((theirs - ours) / whole, sign=True)}",
            )
            for name, ours, theirs in sides
        ),
    )
    low, high = judgement.difference_interval(counts.lost, counts.gained, whole)
    p = judgement.mcnemar(counts.lost, counts.gained)
    disagreements = Table(
        cells.mark("The same images on both sides", run.emulated),
        ("what", "value"),
        (
            (
                "same Top-1 (agreement)",
                f"{cells.share(counts.agree / whole)} ({counts.agree}/{whole})",
            ),
            *((f"flipped, {kind}", str(result.flip_counts[kind])) for kind in KINDS),
            ("McNemar's exact test, two-sided", f"p = {p:.3g}"),
            (
                "Top-1 difference, 95 % interval (Agresti and Min)",
                f"{cells.share(low, sign=True)} to {cells.share(high, sign=True)}",
            ),
        ),
    )
    return [accuracy, disagreements]


def lines(result: Result, end: TaskEnd | None = None) -> list[str]:
    """How labels were mapped, what was not read, memory, further findings, what this is not."""
    run = result.run
    said = [f"Labels became classes {run.mapping}."]
    if run.account:
        said.append(f"{run.account}.")
    if result.unread:
        reasons = " ".join(one.reason for one in result.first_unread[:3])
        more = " ..." if result.unread > 3 else ""
        said.append(
            f"{result.unread} of {result.counts.images + result.unread} images could not be read "
            f"and count on neither side: {reasons}{more}"
        )
    if end is not None and end.peak_bytes:
        sides = ", ".join(f"{name} {size / 1e9:.2f} GB" for name, size in end.peak_bytes.items())
        said.append(f"Greatest resident set of each process: {sides}.")
    if result.fault_effects:
        said.append(f"A fault plan ({run.fault_plan}) was in force.")
        said += [
            f"Fault {number} of the fault plan never acted: no call met its terms."
            for number, effects in enumerate(result.fault_effects, start=1)
            if not effects
        ]
    if result.missing:
        said.append(
            f"Parts that are missing: {cells.first([str(n) for n in result.missing])} of "
            f"{run.parts}; --resume, or the other shards, complete them."
        )
    said += [str(finding) for finding in result.findings if str(finding) != conclusion(result)]
    return [*said, BESIDE]


def conclusion(result: Result) -> str:
    """The status with its reason, as a sentence."""
    run, counts = result.run, result.counts
    if result.findings:
        return str(max(result.findings, key=lambda one: one.status is result.status))
    if run.shard:
        return f"shard {run.shard} is not judged: `python -m harness task-accuracy merge` does it."
    low, _ = judgement.difference_interval(counts.lost, counts.gained, counts.images)
    worse = (
        f"a loss of more than {cells.share(-low)} is unlikely (95 % interval)"
        if low < 0
        else "no loss"
    )
    return (
        f"{Status.PASS.value}: Top-1 on the device is not worse than chance explains "
        f"({counts.lost} lost, {counts.gained} gained of {counts.images}); {worse}."
    )


def text(result: Result, end: TaskEnd | None = None) -> str:
    """All of it for a terminal."""
    found = [render_table(table) for table in tables(result)]
    said = [f"- {one}" for one in lines(result, end)]
    end_line = f"Conclusion: {conclusion(result)}{cells.caveat(result.run.emulated)}"
    return "\n\n".join([*found, "\n".join(map(shown.line, said)), shown.line(end_line)])


def document(result: Result, end: TaskEnd | None = None) -> dict[str, Any]:
    """All of it as JSON; shares, not percent."""
    run, counts = result.run, result.counts
    whole = counts.images
    low, high = judgement.difference_interval(counts.lost, counts.gained, whole)

    def side(right: int) -> dict[str, Any]:
        interval = judgement.share_interval(right, whole) if whole else (0.0, 1.0)
        return {"right": right, "share": right / whole if whole else None, "interval_95": interval}

    def top5(right: int) -> dict[str, Any] | None:
        return side(right) if len(run.classes) > records.TOP else None

    return {
        "kind": "task accuracy",
        "beside": BESIDE,
        "emulated": run.emulated,
        **({"emulated_means": EMULATED_MEANS} if run.emulated else {}),
        "status": result.status.value,
        "findings": [str(finding) for finding in result.findings],
        "conclusion": conclusion(result),
        "images": whole,
        "unread": result.unread,
        "missing_parts": result.missing,
        "cpu": {"top1": side(counts.cpu_right), "top5": top5(counts.cpu_top5)},
        "device": {"top1": side(counts.device_right), "top5": top5(counts.device_top5)},
        "agreement": counts.agree / whole if whole else None,
        "flipped": {kind: result.flip_counts[kind] for kind in KINDS},
        "mcnemar_p": judgement.mcnemar(counts.lost, counts.gained),
        "difference": {
            "value": (counts.device_right - counts.cpu_right) / whole if whole else None,
            "interval_95": (low, high),
            "formula": "Agresti and Min 2005, matched proportions",
        },
        "peak_bytes": end.peak_bytes if end is not None else {},
        "run": run.model_dump(mode="json", exclude={"classes", "started"}),
    }


def write_csv(result: Result, source: Path, path: Path) -> None:
    """Write a row an image, in the order of the parts.  Raises OSError."""
    with files.replacing(path) as temporary:
        with temporary.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
            writer.writerow(COLUMNS)
            for row in _rows(result, source):
                writer.writerow([spreadsheet.cell(row.get(column)) for column in COLUMNS])


def _rows(result: Result, source: Path) -> Iterator[dict[str, Any]]:
    run, names = result.run, result.run.classes

    def side(word: str, top: list[int], probability: float | None, label: int) -> dict[str, Any]:
        return {
            f"{word}_top1": top[0] if top else None,
            f"{word}_top1_name": names[top[0]] if top else None,
            f"{word}_probability": probability,
            f"{word}_right": str(top[:1] == [label]).lower(),
            f"{word}_in_top5": str(label in top).lower(),
        }

    for part in records.parts(source):
        for image in part.answered:
            yield {
                **_named(run, image.name, image.label),
                "read": "true",
                **side("cpu", image.cpu, image.cpu_probability, image.label),
                **side("device", image.device, image.device_probability, image.label),
                "flipped": str(image.flipped).lower(),
                "reason": "none",
            }
        for one in part.unread:
            yield {**_named(run, one.name, one.label), "read": "false", "reason": one.reason}


def _named(run: TaskRun, image: str, label: int) -> dict[str, Any]:
    return {
        "image": image,
        "label": label,
        "label_name": run.classes[label],
        "emulated": str(run.emulated).lower(),
    }


def device_of(run: TaskRun) -> str:
    """The device in words, EMULATED where it is."""
    return f"{run.device.spec} ({run.device.shown})"


def _side(right: int, whole: int) -> str:
    low, high = judgement.share_interval(right, whole)
    interval = f"{cells.share(low)} to {cells.share(high)}"
    return f"{cells.share(right / whole)} ({right}/{whole}; 95 %: {interval})"
