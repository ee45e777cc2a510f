import json

import pytest

from harness.system.status import UsageProblem
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


def test_a_line_cut_off_costs_no_entry_of_the_next_run(tmp_path):
    path = history.append(tmp_path, ran(1, sides()))
    path.write_bytes(path.read_bytes() + b'{"time": "20')
    history.append(tmp_path, ran(2, sides()))
    assert [entry.run_id for entry in history.read(tmp_path, "npu")] == ["r1", "r2"]


def test_a_history_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageProblem, match="cannot be written"):
        history.append(tmp_path / "file", ran(1, sides()))
