"""The run that a port publishes, and the document made of it."""

import re

from harness.cases.case import Case, InputSource, ModelSource
from harness.judgement.budget import OracleError, OutputBudget
from harness.judgement.metrics import Discrimination
from harness.records.leg import DeviceInfo
from harness.records.lines import CaseRecord, EndRecord
from harness.records.results_file import Run
from harness.report.port import content
from harness.report.port import document as report
from harness.system.status import Stage, Status
from tests.makers.records import leg, published, run_record

ENVIRONMENT = {
    "torch": "2.8.0", "torch_npu": "2.8.0.post4", "torchvision": "0.23.0", "timm": "1.0.27",
    "safetensors": "0.5.3", "python": "3.11.9", "platform": "Linux aarch64", "harness": "0.1.0",
}  # fmt: skip


def card(kind: str = "npu", **details) -> DeviceInfo:
    details = {"cann": "8.5.1", "visible_devices": "8"} | details
    return DeviceInfo(
        spec=f"{kind}:0", kind=kind, name="Ascend 910B3", emulated=kind == "npu-emulated",
        details=details,
    )  # fmt: skip


def case_of(
    model: ModelSource | None = None,
    images: InputSource | None = None,
    kind: str = "npu",
    dtype: str = "float32",
    numerics: str = "default",
    **changes,
) -> CaseRecord:
    """A case that ran as the published one did, with its figures."""
    case = Case(
        model or ModelSource("directory", "/models/google--efficientnet-b0"),
        images or InputSource("synthetic"),
        dtype=dtype,
        numerics=numerics,
    )
    error = OracleError(0.1, 0.2, 0.01, (0.1,) * 6, (0.2,) * 6)
    found = {
        "status": Status.PASS,
        "emulated": kind == "npu-emulated",
        "weights": "file model.safetensors: efficientnet_b0, 1000 classes",
        "weights_sha256": "ab12",
        "inputs": "6 structured synthetic images (seed 0), 224x224",
        "inputs_shape": [6, 3, 224, 224],
        "inputs_sha256": "cd34",
        "labels": [str(i) for i in range(6)],
        "reference": leg("cpu", 2.6),
        "candidate": leg("npu", 0.0521).model_copy(update={"device": card(kind)}),
        "gate": published(),
        "budgets": [OutputBudget("output", error, error, 0.01, 1.02, (1.0,) * 6, 3.0)],
        "arithmetic": "float32 with HF32 conv",
        "discrimination": Discrimination(6, 0.5, 6, 1.0, 0.4, 0.9),
    }
    return CaseRecord(case_id=case.id, case=case, **(found | changes))


def broken(status: Status = Status.FAIL_LOAD, reason: str = "Key a is missing.", **changes):
    """A case that ended before anything was measured."""
    nothing = {
        "reference": None, "candidate": None, "gate": None, "budgets": [], "arithmetic": "",
        "discrimination": None, "weights": "", "weights_sha256": "", "inputs": "", "labels": [],
        "inputs_sha256": "",
    }  # fmt: skip
    return case_of(status=status, reason=reason, stage=Stage.LOAD, **(nothing | changes))


def run_of(*cases: CaseRecord, device: str = "npu:0", ended: bool = True, missing=()) -> Run:
    ids = [case.case_id for case in cases] + list(missing)
    first = run_record(*ids).model_copy(
        update={
            "device": device,
            "emulated": device.startswith("npu-emulated"),
            "environment": ENVIRONMENT,
        }
    )
    end = EndRecord(exit_code=0, finished="2026-01-01T00:01:00Z") if ended else None
    return Run(run=first, cases=list(cases), end=end)


def rendered(run: Run, language: str = "en", model: str | None = None) -> str:
    return report.render(content.choose(run, model), language)


def all_tables(document: str) -> list[list[list[str]]]:
    """Every Markdown table: rows of cells, split at bars that are not escaped."""
    found, current = [], []
    for line in document.splitlines():
        if line.startswith("|"):
            current.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif current:
            found.append(current)
            current = []
    return found + ([current] if current else [])


def with_header(document: str, *header: str) -> list[list[str]]:
    (table,) = (table for table in all_tables(document) if table[0] == list(header))
    return table[2:]
