"""Holds the ratios of a run of the benchmarks against those that are committed.

A ratio is worse when its whole 95 % interval over the rounds (Student's t of the logarithms,
harness/judgement/intervals.py) lies more than 10 % beyond the committed value.  An interval that
holds that bound is too wide to tell: it is said, and fails nothing.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import measured
from benchmarks.measured import Target
from harness.judgement.intervals import Interval, paired_interval
from harness.system import files

COMMITTED = measured.ROOT / "benchmarks" / "committed.json"
TOLERANCE = 1.10


@dataclasses.dataclass(frozen=True)
class Held:
    """A part's ratio with its interval, and the committed one."""

    part: str
    interval: Interval
    committed: float

    @property
    def worse(self) -> bool:
        """Whether all that the interval allows is beyond the tolerance."""
        return self.interval.low > self.committed * TOLERANCE

    @property
    def undecided(self) -> bool:
        """Whether the interval holds values on both sides of the tolerance."""
        return not self.worse and self.interval.high > self.committed * TOLERANCE

    def __str__(self) -> str:
        found = f"{self.interval.value:.3g} ({self.interval.low:.3g} to {self.interval.high:.3g})"
        if self.worse:
            return (
                f"{self.part} became worse: {found}, and {self.committed:.3g} is committed, of "
                "which 10 % more is allowed."
            )
        if self.undecided:
            return (
                f"{self.part}: this run is too noisy to tell {found} from the committed "
                f"{self.committed:.3g}: give more --rounds, or a quieter machine."
            )
        return f"{self.part}: {found}, and {self.committed:.3g} is committed."


def read(path: Path = COMMITTED) -> dict[str, float]:
    """The committed ratio of every part; none where there is no such file."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def write(targets: Sequence[Target], path: Path = COMMITTED) -> None:
    """Commit the ratios of the parts that were measured; those of others stay."""
    ratios = {target.what: round(_interval(target).value, 4) for target in targets if target.ratios}
    files.write_json({**read(path), **ratios}, path)


def hold(targets: Sequence[Target], committed: Mapping[str, float]) -> list[Held]:
    """Every measured ratio that has a committed one."""
    return [
        Held(target.what, _interval(target), committed[target.what])
        for target in targets
        if target.ratios and target.what in committed
    ]


def _interval(target: Target) -> Interval:
    found = paired_interval([1.0] * len(target.ratios), target.ratios)
    if found is not None:
        return found
    # One round says nothing about how far the next may be.
    return Interval(target.ratios[0], 0.0, float("inf"))
