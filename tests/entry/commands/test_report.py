import json

import pytest

from harness.entry.commands.main import main
from harness.records import results_file
from harness.report.tables import per_case
from tests.makers.port import broken, case_of, run_of


def test_the_command_writes_documents_results_and_log(tmp_path, capsys):
    results_file.write(run_of(case_of(), broken(dtype="float16", log_tail="Segmentation fault")),
                  tmp_path / "results.jsonl")  # fmt: skip
    assert main(["report", str(tmp_path), "--lang", "zh", "--lang", "en"]) == 1
    out = tmp_path / "port" / "google--efficientnet-b0"
    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == [str(out / "README_zh.md"), str(out / "README_en.md")]
    assert printed[2].startswith("Result: fail_load. The evidence is complete")
    accuracy = json.loads((out / "results" / "accuracy.json").read_text())
    assert accuracy["documented_gate"]["error_rate_percent"] == pytest.approx(0.0003, abs=2e-5)
    assert [case["status"] for case in accuracy["cases"]] == ["pass", "fail_load"]
    performance = json.loads((out / "results" / "performance.json").read_text())
    assert performance["speed_up"] == pytest.approx(49.9, abs=0.01)
    assert performance["device_timing"]["forward_seconds"] == [0.0521]
    again = results_file.read(out / "results" / "records.jsonl")
    assert [case.case_id for case in again.cases] == [case["case_id"] for case in accuracy["cases"]]
    assert "Segmentation fault" in (out / "logs" / "run.log").read_text()
    assert per_case.accuracy(again.cases[0]).rows[0][1] in (out / "logs" / "run.log").read_text()


def test_bad_combinations_are_usage_problems(tmp_path, capsys):
    results_file.write(run_of(case_of()), tmp_path / "results.jsonl")
    (tmp_path / "file").write_text("")
    for options, word in (
        (["--model", "x"], "--lang"),
        (["--lang", "zh", "--format", "text"], "--lang goes with"),
        (["--lang", "zh", "--output", str(tmp_path / "file")], "--output DIR"),
        (["--lang", "fr"], "invalid choice"),
    ):
        assert main(["report", str(tmp_path), *options]) == 4
        assert word in capsys.readouterr().err


def test_a_file_of_somebody_else_is_not_overwritten_and_an_older_report_is(tmp_path, capsys):
    results_file.write(run_of(case_of()), tmp_path / "results.jsonl")
    out = tmp_path / "my clone é"
    out.mkdir()
    (out / "README.md").write_text("mine")
    (out / "notes.txt").write_text("mine")
    command = ["report", str(tmp_path), "--lang", "zh", "--output", str(out)]
    assert main(command) == 4
    assert "is no part of a port report" in capsys.readouterr().err
    assert (out / "README.md").read_text() == "mine"
    (out / "README.md").unlink()
    assert main(command) == 0
    (out / "bug-report").mkdir()
    (out / "logs" / "inference.log").write_text("of an older run")
    assert main(command) == 0
    assert not (out / "bug-report").exists() and not (out / "logs" / "inference.log").exists()
    assert (out / "notes.txt").read_text() == "mine"
