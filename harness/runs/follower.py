"""What a run does at this moment: a view that follows its results file, on a terminal.

Everything comes from the records, so that it is the same for one process, for pytest-xdist and for
a cluster.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.runs.progress import Progress
from harness.system import foreign
from harness.system.status import Status

FAILING_SHOWN = 8


@dataclasses.dataclass
class State:
    """What the records of a run say so far.

    `running`: device -> id and begin of its case; `failing`: id, status and reason of the last
    cases that did not pass.
    """

    progress: Progress
    running: dict[str, tuple[str, float]] = dataclasses.field(default_factory=dict)
    failing: collections.deque[tuple[str, Status, str]] = dataclasses.field(
        default_factory=lambda: collections.deque(maxlen=FAILING_SHOWN)
    )

    def take(self, line: Mapping[str, Any], now: float) -> None:
        """Take in a line of the results file; `now`: on the progress' clock."""
        case_id = line.get("case_id", "")
        if line["type"] == "start":
            self._leave(case_id)  # tried again
            self.running[line.get("device", "")] = (case_id, now)
        elif line["type"] == "case":
            self._leave(case_id)
            status = Status(line["status"])
            again = case_id in self.progress.statuses  # written anew, or tried again
            self.progress.ended(case_id, status, now)
            if not (again or status.is_pass):
                self.failing.append((case_id, status, line.get("reason", "")))

    def _leave(self, case_id: str) -> None:
        self.running = {name: has for name, has in self.running.items() if has[0] != case_id}


class Follower:
    """Reads what is new in a results file while a run writes it; lines as JSON has them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new(self) -> list[dict[str, Any]]:
        """The lines that were completed since the last call."""
        with self._path.open("rb") as stream:
            stream.seek(self._offset)
            text = stream.read()
        whole, _, _ = text.rpartition(b"\n")
        self._offset += len(whole) + bool(whole)
        found = []
        for line in whole.splitlines():
            with contextlib.suppress(ValueError):  # torn by a crash
                found.append(foreign.loads(line))
        return found
