"""The live view of a run, for a terminal."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import IO

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness.runs.follower import Follower, State
from harness.runs.progress import Progress, show_time
from harness.system import shown


def render(state: State, now: float, width: int) -> Group:
    """A bar, a line of numbers, what each device runs, and the last cases that did not pass.

    `now`: seconds on the progress' clock; `width`: columns of the terminal.
    """
    progress = state.progress
    done = len(progress.statuses)
    bar = Table.grid()  # ends its line, as a bar alone does not
    bar.add_row(ProgressBar(total=max(progress.total, 1), completed=done, width=width))
    lines = [Text(progress.line(now))]
    longest = max(map(len, state.running), default=0)
    for device, (case_id, began) in sorted(state.running.items()):
        name = (device.ljust(longest), "bold")
        lines.append(Text.assemble(name, f" {show_time(now - began):>6} ", shown.line(case_id)))
    for case_id, status, reason in state.failing:
        style = "yellow" if status.is_error else "red"
        why = (shown.line(reason), "dim")
        lines.append(Text.assemble((status.value, style), f" {shown.line(case_id)} ", why))
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return Group(bar, *lines)


_REFRESH_SECONDS = 0.25


class View:
    """Draws the state four times a second until it is closed; then it leaves no trace.

    `run`: gives the follower and the progress of the run once it has begun, else None.
    """

    def __init__(self, stream: IO[str], run: Callable[[], tuple[Follower, Progress] | None]):
        # pytest points the descriptor itself elsewhere while a test runs.
        self._stream = os.fdopen(os.dup(stream.fileno()), "w", encoding="utf-8")
        self._run = run
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._draw, name="harness-live", daemon=True)

    def __enter__(self) -> View:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._stream.close()

    def _draw(self) -> None:
        from rich.console import Console
        from rich.live import Live

        from harness.entry.pytest_plugin import live_view

        console = Console(file=self._stream, force_terminal=True)
        live: Live | None = None
        found: tuple[Follower, Progress] | None = None
        state: State | None = None
        while not self._done.wait(_REFRESH_SECONDS):
            found = found or self._run()
            if found is None:
                continue
            follower, progress = found
            state = state or State(progress)
            now = time.monotonic()
            for line in follower.new():
                state.take(line, now)
            if live is None:
                live = Live(console=console, auto_refresh=False, transient=True)
                live.start()
            live.update(live_view.render(state, now, console.width), refresh=True)
        if live is not None:
            live.stop()
