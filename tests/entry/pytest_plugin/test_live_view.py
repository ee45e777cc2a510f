"""The live view: what it draws of records."""

import io

from rich.console import Console

from harness.entry.pytest_plugin import live_view
from harness.runs.follower import FAILING_SHOWN, State
from harness.runs.progress import Progress
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
    assert "2 of 5 cases; 1 fail_nan; 3.0 a minute; about 60 s left" in text
    assert [line.split() for line in text.splitlines() if line.startswith("npu:")] == [
        ["npu:0", "18", "s", "c"]
    ]
    assert "fail_nan b NaN in 'output'" in text


def test_only_the_last_failures_are_shown_each_on_one_line():
    state = State(Progress(total=50, started=0.0, every=0.0))
    for number in range(20):
        state.take(case(f"case{number}", "error_crash", "long [b]reason[/b] " * 30), 1.0 + number)
    lines = [line for line in drawn(state, 30.0, width=60).splitlines() if "case" in line]
    shown = [line for line in lines if line.startswith("error_crash")]
    assert len(shown) == FAILING_SHOWN
    assert "case19" in shown[-1] and "case12" in shown[0]
    assert all(len(line) <= 60 for line in lines)
