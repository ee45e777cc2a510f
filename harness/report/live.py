"""The live view of a run, for a terminal."""

from __future__ import annotations

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness.live import State
from harness.progress import show_time


def render(state: State, now: float, width: int) -> Group:
    """A bar, a line of numbers, what each device runs, and the last cases that did not pass.

    `now`: seconds on the progress' clock; `width`: columns of the terminal.
    """
    progress = state.progress
    done = sum(progress.counts.values())
    bar = Table.grid()  # ends its line, as a bar alone does not
    bar.add_row(ProgressBar(total=max(progress.total, 1), completed=done, width=width))
    lines = [Text(progress.line(now))]
    longest = max(map(len, state.running), default=0)
    for device, (case_id, began) in sorted(state.running.items()):
        name = (device.ljust(longest), "bold")
        lines.append(Text.assemble(name, f" {show_time(now - began):>6} ", case_id))
    for case_id, status, reason in state.failing:
        style = "yellow" if status.is_error else "red"
        lines.append(Text.assemble((status.value, style), f" {case_id} ", (reason, "dim")))
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return Group(bar, *lines)
