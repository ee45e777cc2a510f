"""The live view takes each line of a results file once."""

from harness.records import results_file
from harness.records.lines import StartRecord
from harness.runs.follower import Follower, State
from harness.runs.progress import Progress
from tests.makers.live import case, start


def test_a_case_that_is_tried_again_runs_in_one_place():
    state = State(Progress(total=1, started=0.0, every=0.0))
    state.take(start("a", "host1/npu:0"), 1.0)
    state.take(start("a", "host2/npu:3"), 5.0)
    assert state.running == {"host2/npu:3": ("a", 5.0)}


def test_a_record_that_is_written_twice_counts_once():
    state = State(Progress(total=2, started=0.0, every=0.0))
    for _ in range(2):
        state.take(case("a", "fail_nan"), 1.0)
    assert state.progress.counts.total() == 1 and len(state.failing) == 1


def test_a_follower_gives_each_whole_line_once(tmp_path):
    path = tmp_path / "results.jsonl"
    results_file.append(path, StartRecord(case_id="a", device="cpu"))
    follower = Follower(path)
    assert [line["case_id"] for line in follower.new()] == ["a"]
    assert follower.new() == []
    with path.open("a", encoding="utf-8") as stream:
        stream.write('{"type": "st')
        stream.flush()
        assert follower.new() == []
    results_file.append(path, StartRecord(case_id="b"))  # begins a new line after the torn one
    assert [line["case_id"] for line in follower.new()] == ["b"]
