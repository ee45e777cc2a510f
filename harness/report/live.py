"""The live view of a run, for a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness.live import State
from harness.progress import show_time


def render(state: State, now: float, width: int) -> RenderableType:
    """A bar, a line of numbers, what each device runs, and the last cases that did not pass.

    `now`: seconds on the progress' clock; `width`: columns of the terminal.
    """
    progress = state.progress
    done = sum(progress.counts.values())
    parts: list[RenderableType] = [
        ProgressBar(total=max(progress.total, 1), completed=done, width=max(10, width - 2)),
        Text(progress.line(now), no_wrap=True, overflow="ellipsis"),
    ]
    if state.running:
        parts.append(_running(state, now))
    if state.failing:
        parts.append(_failing(state))
    return Group(*parts)


def _running(state: State, now: float) -> Table:
    table = _table()
    for device, (case_id, began) in sorted(state.running.items()):
        table.add_row(Text(device, style="bold"), Text(case_id), Text(show_time(now - began)))
    return table


def _failing(state: State) -> Table:
    table = _table()
    for case_id, status, reason in state.failing:
        style = "yellow" if status.is_error else "red"
        table.add_row(Text(status.value, style=style), Text(case_id), Text(reason, style="dim"))
    return table


def _table() -> Table:
    """Three columns whose cells stay on one line; the last one gives way first."""
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    return table
