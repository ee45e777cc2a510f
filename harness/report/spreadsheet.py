"""CSV for spreadsheets and data frames: one row a case, every column documented.

Text that a spreadsheet would take for a formula gets an apostrophe in front.  Numbers are written
in full; what was not measured says so, since some readers take an empty cell for a zero.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping

from harness.records.leg import LegRecord
from harness.records.lines import CaseRecord
from harness.records.results_file import Run
from harness.report.tables import missing
from harness.report.tables.cells import EMULATED, NOT_MEASURED
from harness.system import shown

# Excel takes 32,767 characters a cell; a table stays readable with far fewer.
_LONGEST = 1000
# What makes a spreadsheet calculate a cell, also in the wide forms of East Asian input.
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_NONFINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
_VERSIONS = ("torch", "torch_npu", "timm", "harness")

# Column -> meaning.
COLUMNS = {
    "case": "id of the case",
    "model": "name of the model",
    "inputs": "name of the set of images",
    "images": "number of images",
    "dtype": "dtype of the model",
    "batch_size": "images in a batch",
    "numerics": "numerics profile, default or strict",
    "status": "status; `missing` for a selected case without a record",
    "stage": "where a case that did not pass ended; `complete` for the others",
    "reason": "why it did not pass, at most 1,000 characters; `none` for a pass",
    "expected": "outcome of the comparison with the expected row, or `not compared`",
    "emulated": "`true` where the device was emulated: no evidence about NPU hardware",
    "device": "name of the device that was compared with the CPU",
    "mean_cosine_similarity": "protocol's gate: mean cosine of the softmax probabilities",
    "mae": "protocol's gate: mean absolute error of the softmax probabilities",
    "error_rate_percent": "protocol's gate: (1 - mean cosine) x 100",
    "top1_matches": "images with the same Top-1 on both sides",
    "budget_ratio": "greatest error against float64, in units of the declared arithmetic's",
    "arithmetic": "what the device declares and is judged against",
    "max_cosine_between_images": "greatest softmax cosine between two different images",
    "device_images_per_second": "throughput; `EMULATED` for an emulated device",
    "cpu_images_per_second": "throughput of the CPU",
    "speed_up": "device over CPU; `EMULATED` for an emulated device",
    "fair_speed_up": "the same with the CPU at its best setting, where `--throughput` measured it",
    "fair_speed_up_low": "lower end of its 95 % interval",
    "fair_speed_up_high": "upper end of its 95 % interval",
    "device_peak_memory_bytes": "greatest memory allocated for tensors on the device",
    "host_peak_memory_bytes": "greatest resident set of the device's process",
    "fallback_operators": "operators that ran on the CPU instead, or `none`",
    "weights_sha256": "of the state dict",
    "inputs_sha256": "of the images",
    "seconds": "duration of the case",
    "run_id": "id of the run",
    "started": "when the run began, ISO 8601",
    "torch": "version",
    "torch_npu": "version",
    "timm": "version",
    "harness": "version",
    "cann": "version, as the device gave it",
}

Value = str | int | float | None


def render(run: Run) -> str:
    """The header and a row for every selected case, also for those without a record."""
    of_run: dict[str, Value] = {}
    if run.run is not None:
        of_run = {name: run.run.environment.get(name) for name in _VERSIONS}
        of_run |= {"run_id": run.run.run_id, "started": run.run.started.isoformat()}
    rows = [_of_case(case) | of_run for case in run.cases]
    rows += [{**of_run, "case": name, "status": "missing"} for name in run.missing]
    return written(COLUMNS, rows)


def written(columns: Iterable[str], rows: Iterable[Mapping[str, Value]]) -> str:
    """The header and rows; what a row lacks was not measured."""
    names = list(columns)
    stream = io.StringIO()
    writer = csv.writer(stream, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([cell(row.get(column)) for column in names] for row in rows)
    return stream.getvalue()


def _of_case(case: CaseRecord) -> dict[str, Value]:
    gate, device = case.gate, case.candidate
    used, fair = device.memory if device else None, case.fair_speed_up
    return {
        "case": case.case_id,
        "model": case.case.model.name,
        "inputs": case.case.inputs.name,
        "images": missing.image_count(case),
        "dtype": case.case.dtype,
        "batch_size": case.case.batch_size,
        "numerics": case.case.numerics,
        "status": case.status.value,
        "stage": case.stage.value if case.stage else "complete",
        "reason": case.reason or "none",
        "expected": case.expected.outcome.value if case.expected else "not compared",
        "emulated": str(case.emulated).lower(),
        "device": device.device.name if device else None,
        "mean_cosine_similarity": gate.mean_cosine if gate else None,
        "mae": gate.mae if gate else None,
        "error_rate_percent": gate.error_rate_percent if gate else None,
        "top1_matches": gate.top1_matches if gate else None,
        "budget_ratio": case.budget_ratio,
        "arithmetic": case.arithmetic or None,
        "max_cosine_between_images": case.discrimination.max_cosine
        if case.discrimination
        else None,
        "device_images_per_second": EMULATED if case.emulated else _speed(device),
        "cpu_images_per_second": _speed(case.reference),
        "speed_up": EMULATED if case.emulated else case.speed_ratio,
        "fair_speed_up": EMULATED if case.emulated else fair.value if fair else None,
        "fair_speed_up_low": EMULATED if case.emulated else fair.low if fair else None,
        "fair_speed_up_high": EMULATED if case.emulated else fair.high if fair else None,
        "device_peak_memory_bytes": used.device_peak if used else None,
        "host_peak_memory_bytes": used.host_peak if used else None,
        "fallback_operators": (", ".join(device.fallback_operators) or "none") if device else None,
        "weights_sha256": case.weights_sha256 or None,
        "inputs_sha256": case.inputs_sha256 or None,
        "seconds": case.duration_seconds,
        "cann": device.device.details.get("cann") if device else None,
    }


def _speed(leg: LegRecord | None) -> float | None:
    if leg is None or not leg.timing.forward_seconds:
        return None
    return leg.timing.images_per_second


def cell(value: Value) -> str | int | float:
    """A value as it stands in a cell: numbers in full, text that no spreadsheet calculates."""
    if value is None:
        return NOT_MEASURED
    if isinstance(value, float) and not math.isfinite(value):
        value = _NONFINITE[str(value)]
    if not isinstance(value, str):
        return value
    text = " ".join(shown.line(value).split())
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}... ({len(text) - _LONGEST} more characters in the records)"
    return f"'{text}" if text.startswith(_FORMULA) else text
