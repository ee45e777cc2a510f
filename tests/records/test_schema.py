"""The JSON Schema is that of the records, by a validator that is not ours."""

import json

import jsonschema
import pytest

from harness.entry.commands.main import main
from harness.records import schema
from harness.records.lines import EndRecord
from tests.makers.port import broken, case_of
from tests.makers.records import case_record, run_record
from tests.makers.schema import VALIDATOR, line_of


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
        {"schema_version": 3},
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
