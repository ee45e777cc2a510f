"""How far a run has come, as plain lines for a terminal or the log of a CI system."""

from __future__ import annotations

import collections
import dataclasses

from harness.system.status import Status, standing


@dataclasses.dataclass
class Progress:
    """Counts the cases of a run as they end; times in seconds, of any one clock.

    `total`: cases to run; `every`: at least so long between two lines, the last one excepted.
    """

    total: int
    started: float
    every: float
    statuses: dict[str, Status] = dataclasses.field(default_factory=dict)  # by case
    _said: float = dataclasses.field(init=False)
    _first: float = dataclasses.field(init=False)  # when the first case had ended

    def __post_init__(self) -> None:
        self._said = self._first = self.started

    @property
    def counts(self) -> collections.Counter[Status]:
        """How many cases ended with each status."""
        return collections.Counter(self.statuses.values())

    def ended(self, case_id: str, status: Status, now: float) -> str | None:
        """Count a case, once however often it is tried; returns a line when it is time for one."""
        if not self.statuses:
            self._first = now
        before = self.statuses.get(case_id, status)
        self.statuses[case_id] = standing(before, status)
        done = len(self.statuses)
        if done < self.total and now - self._said < self.every:
            return None
        self._said = now
        return self.line(now)

    def line(self, now: float) -> str:
        """Done, not passed, rate, and the time left if the rest goes on like this.

        The first case starts the processes, and may compile the emulator: no estimate is made
        from it.
        """
        done, counts = len(self.statuses), self.counts
        parts = [f"{done} of {self.total} cases"]
        bad = [f"{counts[s]} {s.value}" for s in Status if counts[s] and not s.is_pass]
        if done:
            parts.append(", ".join(bad) or "all passed")
        if (left := self.total - done) <= 0:
            elapsed = max(now - self.started, 1e-9)
            parts += [f"{60 * done / elapsed:.1f} a minute", "done"]
        elif done > 1:
            each = max(now - self._first, 1e-9) / (done - 1)
            parts += [f"{60 / each:.1f} a minute", f"about {show_time(left * each)} left"]
        return "; ".join(parts)


def show_time(seconds: float) -> str:
    """Seconds as "40 s", "12 min" or "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
