"""Records of cases and runs, made without running a model."""

import csv
import io

from harness.cases.case import Case, InputSource, ModelSource
from harness.judgement.budget import FORMAT_LIMIT, OracleError, OutputBudget
from harness.judgement.documented import DocumentedGate, ImageRow
from harness.records.leg import DeviceInfo, LegRecord, Timing
from harness.records.lines import CaseRecord, RunRecord
from harness.report import spreadsheet
from harness.system.status import Status


def measured(
    ratio: float = 1.0,
    *,
    status: Status = Status.PASS,
    errors: tuple[float, ...] = (3e-6,) * 6,
    top1: int = 6,
    limit: float = FORMAT_LIMIT,
    **changes,
):
    """A record with these numbers; `errors`: 1 - cosine of each image."""
    rows = tuple(
        ImageRow(i, str(i), 1, 1 if i < top1 else 2, 1 - e, 0.1, 1.0) for i, e in enumerate(errors)
    )
    mean = sum(errors) / len(errors)
    gate = DocumentedGate(1 - mean, 1e-6, 100 * mean, top1, len(errors), rows)
    error = OracleError(1e-3, 1e-2, 1e-3, (1e-3,) * len(errors), (1e-2,) * len(errors))
    ratios = (ratio,) * len(errors)
    budget = OutputBudget("output", error, error, 1e-3, ratio, ratios, limit)
    return case_record(status=status, gate=gate, budgets=[budget], **changes)


def rows_of(run) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(spreadsheet.render(run))))


NOW = "2026-01-01T00:00:00Z"


def run_record(*cases: str) -> RunRecord:
    return RunRecord(
        run_id="r", started=NOW, device="cpu", device_reason="test", emulated=False,
        cases=list(cases), environment={},
    )  # fmt: skip


def case_record(name: str = "m", status: Status = Status.PASS, **changes) -> CaseRecord:
    case = Case(ModelSource("architecture", name), InputSource("synthetic"))
    return CaseRecord(case_id=case.id, case=case, status=status, **changes)


def leg(kind: str, seconds: float = 0.05, **changes) -> LegRecord:
    emulated = kind == "npu-emulated"
    return LegRecord(
        device=DeviceInfo(spec=kind, kind=kind, name="Some <card>", emulated=emulated),
        numerics={},
        timing=Timing(
            batch_size=8, images=6, forward_seconds=[seconds], first_forward_seconds=1, threads=2
        ),
        operators={"aten::convolution.default": 3},
        fallback_operators=[],
        weights_sha256="0",
        **changes,
    )


def published() -> DocumentedGate:
    """The published run: its six cosines, all Top-1 984."""
    cosines = [0.999997, 0.999998, 0.999996, 0.999997, 0.999997, 0.999998]
    rows = tuple(ImageRow(i, f"{i}", 984, 984, c, 0.01, 1.0) for i, c in enumerate(cosines))
    mean = sum(cosines) / len(cosines)
    return DocumentedGate(mean, 0.000002, 100 * (1 - mean), 6, 6, rows)


def published_case(**changes):
    return case_record(
        gate=published(), reference=leg("cpu", 2.6), candidate=leg("npu", 0.0521), **changes
    )
