"""Which cases a run runs: selected, within limits, of one shard, without what a run settled."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.cases import case_files, sizes
from harness.cases.case import Case
from harness.cases.case_files import Selection
from harness.cases.sizes import Limits
from harness.records.lines import ShardInfo
from harness.runs import resume, shards
from harness.runs.resume import Resumed
from harness.runs.shards import Shard
from harness.system.status import UsageProblem


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the command line says about the cases to run.

    `shard_durations`: results or history file to divide by; None: by the sizes of the models.
    `resume`: results file, or its folder, of a run to complete.
    """

    selection: Selection = Selection()
    limits: Limits = Limits()
    shard: Shard | None = None
    shard_durations: Path | None = None
    resume: Path | None = None


@dataclasses.dataclass(frozen=True)
class RunPlan:
    """The cases of this run; `kept`: ids of those that an earlier run settled.

    `about`: what limits leave out, which shard this is and what is kept, a line each.
    """

    cases: list[Case]
    shard: ShardInfo | None = None
    resumed: Resumed | None = None
    kept: frozenset[str] = frozenset()
    left_out: str = ""  # how many, and by which limits
    about: tuple[str, ...] = ()

    @property
    def to_run(self) -> list[Case]:
        """The cases that are run here."""
        return [case for case in self.cases if case.id not in self.kept]

    def chosen(self, ids: Iterable[str]) -> list[Case]:
        """The cases that the results file is to hold when tests of these cases were collected.

        Raises UsageProblem when a shard or a resumed run would lack some.
        """
        wanted = set(ids)
        chosen = [case for case in self.cases if case.id in wanted]
        if self.shard is None and self.resumed is None:
            return chosen
        if len(chosen) < len(self.to_run):
            raise UsageProblem(
                "--shard and --resume go by what --model, --tier and case files select: -k, "
                f"--deselect or a test's own name leave only {len(chosen)} of "
                f"{len(self.to_run)} cases; select without these."
            )
        return self.cases


def plan(known: Sequence[Case], asked: Asked, kept: frozenset[str] | None = None) -> RunPlan:
    """Settle the cases; `known`: those of the case files.

    `kept`: ids, where another process has read the run to complete already: it may have replaced
    the file meanwhile.  Raises UsageProblem.
    """
    selected = case_files.select(known, asked.selection)
    cases = sizes.apply(selected, asked.limits)
    left_out = ""
    if len(cases) < len(selected):
        count = len(selected) - len(cases)
        left_out = f"{asked.limits} leaves out {count} of {len(selected)} cases"
    about = [left_out] if left_out else []
    shard: ShardInfo | None = None
    if asked.shard is not None:
        source = asked.shard_durations
        seconds = shards.durations(source) if source is not None else sizes.weights(cases)
        cases, shard = shards.choose(cases, seconds, asked.shard)
        about.append(f"shard {asked.shard}: {len(cases)} of {len(shard.whole)} cases")
    resumed = None
    if kept is None and asked.resume is not None:
        resumed = resume.read(asked.resume)
        kept = frozenset(resumed.kept)
        about.append(f"resumed: {len(kept)} of {len(cases)} cases have a verdict in {asked.resume}")
    return RunPlan(cases, shard, resumed, kept or frozenset(), left_out, tuple(about))
