"""CSV: one row a case, and nothing that a spreadsheet takes for a formula."""

import csv
import io

import pytest

from harness.cases.case import ModelSource
from harness.entry.commands.main import main
from harness.records import results_file
from harness.report import junit, spreadsheet
from harness.system.files import ROOT
from tests.makers.port import broken, case_of, run_of
from tests.makers.records import rows_of

DOCUMENT = ROOT / "docs" / "machine-forms.md"


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
