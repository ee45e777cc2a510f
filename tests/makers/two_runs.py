"""Runs to be compared, made of records."""

import dataclasses
import datetime

from harness.records.lines import EndRecord
from harness.records.results_file import Run
from tests.makers.records import leg, measured, run_record

NOW = "2026-01-01T00:00:00Z"


def run(*cases, missing=(), **environment) -> Run:
    record = run_record(*(case.case_id for case in cases), *missing)
    record = record.model_copy(update={"environment": environment})
    return Run(run=record, cases=list(cases), end=EndRecord(exit_code=0, finished=NOW))


def sides(ratio: float = 1.0, *, seconds=(0.1, 0.1), kind: str = "npu", images=None, **changes):
    """A record with both legs; `images`: ratio of each image, `seconds`: of the device."""
    case = measured(
        ratio,
        reference=leg("cpu", 1.0),
        candidate=leg(kind),
        emulated=kind == "npu-emulated",
        **changes,
    )
    timing = case.candidate.timing.model_copy(update={"forward_seconds": list(seconds)})
    candidate = case.candidate.model_copy(update={"timing": timing})
    case = case.model_copy(update={"candidate": candidate})
    if images is not None:
        budget = dataclasses.replace(case.budgets[0], image_ratios=tuple(images))
        case = case.model_copy(update={"budgets": [budget]})
    return case


def ran(day: int, *cases, kind: str = "npu", **environment) -> Run:
    found = run(*cases, **environment)
    record = found.run.model_copy(
        update={
            "run_id": f"r{day}",
            "device": f"{kind}:0",
            "started": datetime.datetime(2026, 1, day, tzinfo=datetime.timezone.utc),
        }
    )
    return found.model_copy(update={"run": record})
