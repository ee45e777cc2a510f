"""The decision on an upgrade as text, one HTML page, JSON, CSV and JUnit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from harness.qualification import certificate
from harness.report import junit, spreadsheet, text
from harness.report.html import upgrade_page
from harness.report.tables import upgrade as tables
from harness.system import files, shown
from harness.system.status import ExitCode, UsageProblem
from harness.upgrade.compare import CaseChange, Change
from harness.upgrade.decision import Decision
from harness.upgrade.operators import Calls

NAME = "upgrade"
# Column -> meaning.
COLUMNS = {
    "call": "id of the call",
    "operator": "overload",
    "dtype": "dtype of the model",
    "numerics": "numerics profile",
    "status": "status",
    "expected": "`known failure` where a row expects it, `improved` where it passes all the same",
    "changed": "`true` where its bits changed, `not compared` where that was not asked",
    "worst_ratio": "greatest error of a result or slice, in units of what rounding may cost",
    "models": "how many models make it",
    "cropped": "what was made smaller, or `nothing`",
    "reason": "why it did not pass, or `none`",
    "emulated": "`true` where the device was emulated: no evidence about NPU hardware",
    "signature": "the call",
}


def as_text(found: Decision) -> str:
    """The answer, the parts, and what is shown at once."""
    now = [table for _, part, open_ in tables.sections(found) if open_ for table in part]
    said = [*map(shown.line, tables.contradictions(found)), shown.line(found.line)]
    return "\n\n".join([*map(text.render_table, [tables.parts(found), *now]), "\n".join(said)])


def as_json(found: Decision) -> str:
    """The answer with all certificates, as one JSON document."""
    document = {
        "upgrade": 1,
        "emulated": found.emulated,
        "exit_code": int(found.code),
        "answer": found.line,
        "old": found.old,
        "new": found.new,
        "parts": [
            {
                "name": part.name,
                "exit_code": None if part.code is None else int(part.code),
                "said": part.said,
            }
            for part in found.parts
        ],
        "cases": [_case(case) for case in (found.cases.cases if found.cases else ())],
        "operators": [_calls(one) for one in found.operators],
        "arithmetic": found.arithmetic,
        "support": [{"answer": s.answer, **dataclasses.asdict(s)} for s in found.support],
        "contradicted": found.contradicted,
    }
    return shown.document(from_json(to_json(document, inf_nan_mode="strings")))


def _case(case: CaseChange) -> dict[str, Any]:
    return {
        "case": case.case_id,
        "change": case.change.value,
        "why": case.why,
        **{
            name: side.status.value for name, side in (("old", case.old), ("new", case.new)) if side
        },
    }


def _calls(one: Calls) -> dict[str, Any]:
    options = one.results.run.options
    return {
        "exit_code": int(one.code),
        "failing": [
            {**dataclasses.asdict(group), "repeat": group.repeated(options)}
            for group in one.failing
        ],
        "known": [dataclasses.asdict(group) for group in one.known],
        "better": one.better,
        "bits_not_compared": one.apart,
        "certificate": certificate.plain(one.certificate),
    }


def as_csv(found: Decision) -> str:
    """A row a call of the new run; the columns are `COLUMNS`."""
    return spreadsheet.written(COLUMNS, (row for one in found.operators for row in _rows(one)))


def _rows(one: Calls) -> list[Mapping[str, spreadsheet.Value]]:
    run, compared = one.results.run, one.certificate.changes is not None
    return [
        {
            "call": name,
            "operator": item.signature.split('"', 2)[1],
            "dtype": run.dtype,
            "numerics": run.numerics,
            "status": item.status.value,
            "expected": "known failure" if name in one.rows
            else "improved" if name in one.better else "as every call",
            "changed": str(name in one.changed).lower() if compared else "not compared",
            "worst_ratio": item.worst_ratio,
            "models": len(one.catalogue.models_of.get(name, ())),
            "cropped": item.cropped or "nothing",
            "reason": item.reason or "none",
            "emulated": str(run.emulated).lower(),
            "signature": item.signature,
        }
        for name, item in one.results.outcomes.items()
    ]  # fmt: skip


def as_junit(found: Decision) -> str:
    """A suite a part; a test a case, a model and format, and one for each part beside these."""
    suites: dict[str, list[junit.Test]] = {}
    for part in found.parts:
        failed = part.code not in (None, ExitCode.OK, ExitCode.IMPROVED)
        why = f"exit code {tables.code(part)}: {part.said}" if failed else ""
        suites[part.name] = [
            junit.Test(
                part.name,
                failure="" if part.code is ExitCode.INFRASTRUCTURE else why,
                error=why if part.code is ExitCode.INFRASTRUCTURE else "",
                skipped=part.said if part.code is None else "",
            )
        ]
    for one in found.operators:
        run, known = one.results.run, set(one.rows)
        models = one.catalogue.models
        suites[f"operators, {run.dtype} ({run.numerics})"] += [
            junit.Test(
                f"{model.name} ({run.dtype}, {run.numerics})",
                failure=""
                if model.holds or not _unexpected(one, models[model.name], known)
                else certificate.sentence(model, run, one.certificate.since),
            )
            for model in one.certificate.models
        ]
    if found.cases is not None:
        good = (Change.IDENTICAL, Change.NOISE, Change.SYSTEMATIC, Change.BETTER)
        suites["cases"] += [
            junit.Test(
                case.case_id,
                failure=""
                if case.change in (*good, Change.ERROR)
                or (
                    case.change is Change.ADDED and case.new is not None and case.new.status.is_pass
                )
                else f"{case.change.value}: {case.why}",
                error=case.why if case.change is Change.ERROR else "",
            )
            for case in found.cases.cases
        ]
    return junit.document(suites)


def _unexpected(one: Calls, calls: Mapping[str, int], known: set[str]) -> bool:
    """Whether a model makes a call that fails and is not expected to, or that was not run."""
    outcomes = one.results.outcomes
    return any(
        name not in outcomes or (outcomes[name].failed and name not in known) for name in calls
    )


_FORMS = {
    ".html": upgrade_page.render,
    ".json": as_json,
    ".csv": as_csv,
    ".xml": as_junit,
    ".txt": as_text,
}


def write(found: Decision, directory: Path) -> list[Path]:
    """Write every form into a folder.  Raises UsageProblem where it cannot be written."""
    written = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for suffix, render in _FORMS.items():
            path = directory / f"{NAME}{suffix}"
            with files.replacing(path) as part:
                part.write_text(render(found), encoding="utf-8")
            written.append(path)
    except OSError as error:
        raise UsageProblem(
            f"The answer cannot be written to {directory} ({error.strerror}): give another "
            "--output DIR."
        ) from error
    return written
