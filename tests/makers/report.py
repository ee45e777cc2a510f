"""Records with everything that a report shows, made without running a model."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import io
import json
import os
import re
import shutil
from pathlib import Path

from PIL import Image

from harness.judgement import vendor_standard
from harness.judgement.localization import Localization
from harness.judgement.operator_rows import OperatorCheck, OperatorRow
from harness.judgement.verdict import judge
from harness.records import results_file
from harness.records.lines import CaseRecord, EndRecord
from harness.records.results_file import Run
from harness.records.views import Guess, ImageView
from harness.system.status import Finding, Stage, Status
from tests.makers.detection import counted
from tests.makers.evidence import LABELS, evidence, logits, noisy
from tests.makers.records import case_record, leg, run_record

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
NOW = "2026-01-01T00:00:00Z"


def chromium() -> str | None:
    """The browser of this machine, if there is one."""
    given = os.environ.get("HARNESS_CHROMIUM")
    return given or next(filter(None, map(shutil.which, BROWSERS)), None)


def operator(index: int, ratio: float = 1.0) -> OperatorRow:
    """An operator whose own error is `ratio` times its budget."""
    return OperatorRow(
        index, "aten::convolution.default", f"blocks.{index}.conv", ("6x3x8x8",), "float16",
        "contiguous", "float16", ("6x8x8x8",), 1e-4 * ratio, 1e-4, 1.0, ratio, ratio,
        worst_slice="dimension 1, index 3", inherited_rmse=2e-4 * ratio,
        inherited_budget_rmse=2e-4,
    )  # fmt: skip


# One call of a product and one of a move, by the vendor's standards.
STANDARD = vendor_standard.summarise(
    [
        ("aten::mm.default", vendor_standard.Standing("L1", True, 3.0, 1.4, 1.1, 0.5, 7, 1.0)),
        ("aten::roll.default", vendor_standard.Standing("bits equal", True)),
    ]
)


def views() -> list[ImageView]:
    """Six grey images, which both sides call the same."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (90, 120, 150)).save(file, "JPEG")
    jpeg = base64.b64encode(file.getvalue()).decode()
    guesses = tuple(Guess(n, f"class <{n}>", 0.5 / (n + 1)) for n in range(5))
    return [ImageView(n, jpeg, guesses, guesses) for n in range(6)]


def full_case(name: str, *, bad: bool = False, kind: str = "npu", **changes: object) -> CaseRecord:
    """A judged case with both legs, operators and faults; a bad one has a culprit."""
    device = logits() * 1.2 if bad else noisy(1)
    judged = judge(evidence({"output": device}, {"output": logits()}))
    rows = tuple(operator(i, 500.0 if bad and i == 7 else 1.0) for i in range(20))
    leading = judged.leading
    found: dict[str, object] = {
        "status": judged.status,
        "stage": leading.stage if leading else None,
        "reason": leading.reason if leading else "",
        "findings": list(judged.findings),
        "labels": LABELS,
        "views": views(),
        "gate": judged.gate,
        "outputs": list(judged.outputs),
        "discrimination": judged.discrimination,
        "arithmetic": judged.arithmetic,
        "budgets": list(judged.budgets),
        "reference": leg("cpu", 1.0),
        "candidate": leg(kind),
        "emulated": kind == "npu-emulated",
        "operators": OperatorCheck(1.0, 20, 20, int(bad), rows[:5], standard=STANDARD),
        "localization": Localization("float16", 0, 6, rows) if bad else None,
        "sensitivity": counted(),
        "weights": "random, seed 0",
        "inputs": "6 synthetic images 224x224",
        "inputs_shape": [6, 3, 224, 224],
        "duration_seconds": 12.5,
    }
    return case_record(name, **{**found, **changes})  # type: ignore[arg-type]


def renamed(case: CaseRecord, case_id: str, factor: float = 1.0) -> CaseRecord:
    """The same case under another id, with so many times its budget ratios and limits."""
    budgets = [
        dataclasses.replace(
            row,
            ratio=row.ratio * factor,
            image_ratios=tuple(ratio * factor for ratio in row.image_ratios),
            limit=row.limit * factor,
        )
        for row in case.budgets
    ]
    return case.model_copy(update={"case_id": case_id, "budgets": budgets})


def write(folder: Path, *cases: CaseRecord, **environment: str) -> Path:
    """Write a results file with these cases."""
    run = run_record(*(case.case_id for case in cases))
    kinds = sorted({case.candidate.device.kind for case in cases if case.candidate} or {"cpu"})
    run = run.model_copy(
        update={
            "environment": {"torch": "2.8.0", **environment},
            "emulated": "npu-emulated" in kinds,
            "device": kinds[-1],
            "parts": kinds if len(kinds) > 1 else [],
        }
    )
    path = folder / "results.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    results_file.write(
        Run(run=run, cases=list(cases), end=EndRecord(exit_code=0, finished=NOW)), path
    )
    return path


def crashed(name: str, text: str) -> CaseRecord:
    """A case that left nothing but a text."""
    return case_record(
        name,
        Status.ERROR_CRASH,
        reason=text,
        findings=[Finding(Status.ERROR_CRASH, Stage.FORWARD, text)] * 2,
        log_tail=text,
    )


def unpacked(text: str) -> dict[str, str]:
    packed = re.search(r'id="harness-details">([^<]*)<', text)[1]
    return json.loads(gzip.decompress(base64.b64decode(packed)))["cases"]
