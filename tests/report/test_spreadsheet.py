"""JSON Schema, CSV, JUnit properties and the job summary: what machines read."""

import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree

import jsonschema
import pytest

from harness.cases.case import ModelSource
from harness.entry.commands.main import main
from harness.records import results_file, schema
from harness.records.lines import EndRecord
from harness.report import junit, markdown, spreadsheet
from harness.runs.session import exit_code
from harness.system.files import ROOT
from harness.system.status import Status
from tests.makers.port import broken, case_of, run_of
from tests.makers.records import case_record, rows_of, run_record
from tests.makers.schema import VALIDATOR, line_of

DOCUMENT = ROOT / "docs" / "machine-forms.md"


def test_the_document_holds_the_schema_of_the_models():
    jsonschema.Draft202012Validator.check_schema(schema.schema())
    written = json.loads(schema.DOCUMENT.read_text(encoding="utf-8"))
    assert written == schema.schema(), "run `python -m harness schema`"


def test_the_command_writes_the_schema(tmp_path, capsys):
    assert main(["schema", "--output", str(tmp_path / "s.json")]) == 0
    assert json.loads((tmp_path / "s.json").read_text()) == schema.schema()
    capsys.readouterr()
    assert main(["schema", "--output", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == schema.schema()
    assert main(["schema", "--output", str(tmp_path / "no" / "s.json")]) == 4


@pytest.mark.parametrize(
    "record",
    [
        run_record("a"),
        case_of(),
        broken(),
        case_record(duration_seconds=float("nan")),
        case_of(gate=None, budgets=[]),
        EndRecord(exit_code=0, finished="2026-01-01T00:00:00Z"),
    ],
    ids=["run", "pass", "failed", "nan", "no gate", "end"],
)
def test_records_validate(record):
    VALIDATOR.validate(line_of(record))


@pytest.mark.parametrize(
    "change",
    [
        {"status": "fine"},
        {"schema_version": 2},
        {"type": "other"},
        {"unknown": 1},
        {"duration_seconds": "nan"},
        {"gate": {"mean_cosine": 1.0}},
        {"case": None},
    ],
)
def test_what_is_no_record_does_not_validate(change):
    line = line_of(case_of())
    VALIDATOR.validate(line)
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(line | change)
    for name in ("type", "schema_version", "case_id"):
        with pytest.raises(jsonschema.ValidationError):
            VALIDATOR.validate({key: value for key, value in line.items() if key != name})


def test_every_column_and_property_is_documented():
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, meaning in (*spreadsheet.COLUMNS.items(), *junit.PROPERTIES.items()):
        assert f"| `{name}` | {meaning} |" in text


def test_csv_has_one_row_a_case_and_full_numbers():
    case = case_of()
    (row,) = rows_of(run_of(case))
    assert list(row) == list(spreadsheet.COLUMNS)
    assert row["case"] == case.case_id
    assert float(row["error_rate_percent"]) == case.gate.error_rate_percent
    assert float(row["speed_up"]) == case.speed_ratio
    assert row["cann"] == "8.5.1" and row["torch"] == "2.8.0"
    assert row["reason"] == "none" and row["expected"] == "not compared"


def test_csv_says_what_is_missing():
    rows = rows_of(run_of(broken(), missing=["gone"]))
    assert [row["status"] for row in rows] == ["fail_load", "missing"]
    assert rows[0]["mae"] == rows[0]["device"] == rows[1]["dtype"] == "not measured"
    assert all(all(row.values()) for row in rows)


def test_csv_of_zero_cases_is_its_header():
    assert rows_of(run_of()) == []
    assert spreadsheet.render(run_of()).count("\n") == 1


def test_csv_of_an_emulated_run_has_no_speed():
    (row,) = rows_of(run_of(case_of(kind="npu-emulated"), device="npu-emulated:0"))
    assert row["emulated"] == "true"
    assert row["device_images_per_second"] == row["speed_up"] == "EMULATED"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r=", "\n=", "\uff1d"])
def test_csv_cells_are_no_formulas(start):
    reason = f'{start}HYPERLINK("http://x";"y"), "q"\nsecond'
    model = ModelSource("directory", "/m/=cmd|calc")
    (row,) = rows_of(run_of(broken(reason=reason, model=model)))
    assert row["model"] == "'=cmd|calc"
    assert row["reason"].startswith("'") and row["reason"].endswith('"q" second')
    assert not any(value.startswith(("=", "+", "@")) for value in row.values())


def test_csv_of_numbers_below_zero_and_no_numbers():
    gate = case_of().gate
    changed = type(gate)(**{**gate.__dict__, "mean_cosine": -0.5, "mae": float("-inf")})
    (row,) = rows_of(run_of(case_of(gate=changed)))
    assert float(row["mean_cosine_similarity"]) == -0.5
    assert row["mae"] == "'-Infinity"


def test_csv_of_a_very_long_reason():
    (row,) = rows_of(
        run_of(broken(reason="x" * 100_000, model=ModelSource("directory", "模" * 99)))
    )
    assert len(row["reason"]) < 1100 and "99000 more characters" in row["reason"]
    assert row["model"] == "模" * 99


def test_the_command_prints_csv(tmp_path, capsys):
    results_file.write(run_of(case_of(), broken(dtype="float16")), tmp_path / "results.jsonl")
    assert main(["report", "--format", "csv", str(tmp_path)]) == 1
    assert len(list(csv.reader(io.StringIO(capsys.readouterr().out)))) == 3


def test_properties_are_absent_where_nothing_was_measured():
    assert dict(junit.properties(case_of(gate=None)))["budget_ratio"] == "1.02"
    found = dict(junit.properties(broken()))
    assert list(found) == ["case", "status", "emulated", "stage"]
    emulated = dict(junit.properties(case_of(kind="npu-emulated")))
    assert emulated["emulated"] == "true" and "speed_up" not in emulated


@pytest.mark.parametrize("name", ["模型-photos", "a.b+c", "é-ü", "x" * 300])
def test_a_case_id_survives_the_node_id(name):
    escaped = name.encode("unicode_escape").decode("ascii")
    assert junit.case_id(f"cases/test_accuracy.py::test_accuracy[{escaped}]") == name
    assert junit.case_id(f"cases/test_accuracy.py::test_accuracy[{name}]") == name


def test_the_job_summary_of_many_failures_fits_into_its_mebibyte():
    cases = [
        broken(Status.FAIL_NAN, "<b>|" * 5000, findings=["y" * 20_000] * 3, model=source)
        for source in (ModelSource("architecture", f"m{i}") for i in range(500))
    ]
    text = markdown.render_run(cases)
    assert len(text.encode()) < 1 << 20
    assert "480 more cases that did not pass" in text
    assert all(case.case_id in text for case in cases)
    assert "<b>" not in text


def test_the_job_summary_of_no_case_and_of_one():
    assert "No case was run." in markdown.render_run([])
    one = markdown.render_run([case_of(kind="npu-emulated")])
    assert "EMULATED" in one and "1 case: 1 pass" in one
    for line in one.splitlines():
        if line.startswith("|"):
            assert len(re.split(r"(?<!\\)\|", line)) == 10


def test_a_run_from_the_shell_gives_every_form(copy_of, harness_run, tmp_path):
    """One real run of a model with an awkward name: its records, JUnit, CSV and port report."""
    model = copy_of("模型`a|b` <i>")
    report = tmp_path / "junit.xml"
    cases = f"[[case]]\ndirectory = '{model}'\ninputs = ['synthetic']\nnumerics = ['default']\n"
    finished = harness_run("--device", "cpu", f"--junitxml={report}", cases=cases)
    assert finished.code == 0, finished.text
    run = finished.run
    (case,) = run.cases
    assert run.missing == [] and exit_code(run) == 0
    for line in (finished.results / "results.jsonl").read_text(encoding="utf-8").splitlines():
        VALIDATOR.validate(json.loads(line))
    (test,) = ElementTree.parse(report).iter("testcase")
    found = {item.get("name"): item.get("value") for item in test.iter("property")}
    assert found == dict(junit.properties(case))
    assert found["case"] == case.case_id and "模型" in case.case_id
    assert float(found["error_rate_percent"]) == case.gate.error_rate_percent
    (row,) = rows_of(run)
    assert row["model"] == "模型`a|b` <i>" and row["status"] == "pass"
    assert main(["report", "--lang", "zh", str(finished.results)]) == 0
    (document,) = (finished.results / "port").glob("*/README_zh.md")
    assert "草稿" in document.read_text(encoding="utf-8")  # the CPU is no NPU
