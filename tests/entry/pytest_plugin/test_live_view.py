"""The live view: what it takes from records, what it draws, and that a terminal gets it."""

import io
import json
import os
import pty
import subprocess
import sys

from rich.console import Console

from harness.entry.pytest_plugin import live_view
from harness.records import results_file
from harness.records.lines import StartRecord
from harness.runs.follower import FAILING_SHOWN, Follower, State
from harness.runs.progress import Progress
from harness.system.files import ROOT
from tests.makers.cases import entry
from tests.makers.live import case, start


def drawn(state: State, now: float, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(live_view.render(state, now, width))
    return console.file.getvalue()


def test_it_knows_what_each_device_runs_and_what_went_wrong():
    state = State(Progress(total=5, started=0.0, every=0.0))
    for line in (start("a", "npu:0"), start("b", "npu:1"), case("a", "pass")):
        state.take(line, 10.0)
    state.take(start("c", "npu:0"), 12.0)
    state.take(case("b", "fail_nan", "NaN in 'output'"), 20.0)
    assert state.running == {"npu:0": ("c", 12.0)}
    text = drawn(state, 30.0)
    assert "2 of 5 cases; 1 fail_nan; 4.0 a minute; about 45 s left" in text
    assert [line.split() for line in text.splitlines() if line.startswith("npu:")] == [
        ["npu:0", "18", "s", "c"]
    ]
    assert "fail_nan b NaN in 'output'" in text


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


def test_only_the_last_failures_are_shown_each_on_one_line():
    state = State(Progress(total=50, started=0.0, every=0.0))
    for number in range(20):
        state.take(case(f"case{number}", "error_crash", "long [b]reason[/b] " * 30), 1.0 + number)
    lines = [line for line in drawn(state, 30.0, width=60).splitlines() if "case" in line]
    shown = [line for line in lines if line.startswith("error_crash")]
    assert len(shown) == FAILING_SHOWN
    assert "case19" in shown[-1] and "case12" in shown[0]
    assert all(len(line) <= 60 for line in lines)


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


def test_a_terminal_shows_the_view_in_place_of_letters(copy_of, tmp_path, cache_dir):
    cases = tmp_path / "cases.toml"
    cases.write_text(entry(copy_of("a")), encoding="utf-8")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "run", "--device", "cpu", "--case-file", str(cases),
         "--results", str(tmp_path / "results"), "-p", "no:cacheprovider"],
        cwd=ROOT, stdout=theirs, stderr=theirs, stdin=theirs,
        env={**os.environ, "HARNESS_CACHE_DIR": str(cache_dir), "TERM": "xterm", "COLUMNS": "120"},
    )  # fmt: skip
    os.close(theirs)
    text = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        text += part
    os.close(ours)
    assert process.wait() == 0, text.decode()
    (id_,) = [json.loads(line)["case_id"] for line in
              (tmp_path / "results" / "results.jsonl").read_text(encoding="utf-8").splitlines()
              if '"type":"case"' in line]  # fmt: skip
    shown = text.decode().partition("test session starts")[2].partition("accuracy =")[0]
    assert "0 of 1 cases" in shown
    assert f"s {id_}" in " ".join(shown.split())
    assert "test_accuracy.py" not in shown and "[100%]" not in shown
