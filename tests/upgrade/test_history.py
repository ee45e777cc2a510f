import json

import pytest

from harness.report import text
from harness.report.html import fragments
from harness.report.tables import trend
from harness.system.status import Status, UsageProblem
from harness.upgrade import history
from tests.makers.records import case_record
from tests.makers.two_runs import ran, sides


def test_a_run_adds_one_line_a_case_to_the_file_of_its_device(tmp_path):
    path = history.append(tmp_path / "h", ran(1, sides(1.25), case_record("b"), torch="2.8"))
    assert path == tmp_path / "h" / "npu.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["case_id"].split("-")[0] for line in lines] == ["m", "b"]
    assert lines[0]["budget_ratio"] == 1.25
    assert lines[0]["images_per_second"] == pytest.approx(60)
    assert lines[0]["speed_ratio"] == pytest.approx(10)
    assert "budget_ratio" not in lines[1]
    history.append(tmp_path / "h", ran(2, sides(), torch="2.8"))
    assert [entry.run_id for entry in history.read(tmp_path / "h", "npu")] == ["r1", "r1", "r2"]
    assert history.read(tmp_path / "h", "cpu") == []


def test_an_emulated_device_has_its_own_file_and_no_speed(tmp_path):
    path = history.append(tmp_path, ran(1, sides(kind="npu-emulated"), kind="npu-emulated"))
    assert path.name == "npu-emulated.jsonl"
    (entry,) = history.read(tmp_path, "npu-emulated")
    assert entry.emulated and entry.images_per_second is None and entry.speed_ratio is None


def test_lines_that_are_no_entry_are_left_out(tmp_path):
    path = history.append(tmp_path, ran(1, sides(float("nan"))))
    with path.open("a") as stream:
        stream.write('{"time": "20\nnonsense\n[]\n')
    (entry,) = history.read(tmp_path, "npu")
    assert entry.budget_ratio != entry.budget_ratio


def test_a_history_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageProblem, match="cannot be written"):
        history.append(tmp_path / "file", ran(1, sides()))


def test_the_trend_has_a_column_for_each_set_of_versions(tmp_path):
    for day, torch, ratio in ((1, "2.8", 1.0), (2, "2.13", 1.5), (3, "2.13", 1.4)):
        last = ran(day, sides(ratio), torch=torch, timm="1")
        history.append(tmp_path, last)
    bad = case_record("b", Status.FAIL_NAN)
    history.append(tmp_path, last := ran(4, sides(9.0), bad, torch="2.14", timm="1"))
    table = trend.trend(history.of_run(tmp_path, last))
    assert table.header == ("case", "torch 2.8", "torch 2.13", "torch 2.14")
    first, second = table.rows
    assert first[1:] == (
        "pass, 1, 0.0003 %, 10.0 x",
        "pass, 1.4, 0.0003 %, 10.0 x (2 runs)",
        "pass, 9, 0.0003 %, 10.0 x",
    )
    assert second[1:] == ("not run", "not run", "fail_nan")
    assert "torch 2.13" in text.render_table(table) and "torch 2.13" in fragments.render_table(
        table
    )


def test_a_single_run_has_no_trend(tmp_path):
    history.append(tmp_path, only := ran(1, sides()))
    assert trend.trend(history.of_run(tmp_path, only)) is None


def test_an_emulated_trend_says_so(tmp_path):
    for day in (1, 2):
        last = ran(day, sides(kind="npu-emulated"), kind="npu-emulated")
        history.append(tmp_path, last)
    assert "[EMULATED]" in trend.trend(history.of_run(tmp_path, last)).rows[0][0]
