"""Going on with an earlier run: what it settled is kept, the rest is run.

Kept are cases with a verdict.  Cases without a record, in flight when the run was cut short, or
with trouble of the infrastructure are run again.  One file shall hold one run, so the selection,
the options, the device kind and the versions must be those of the earlier run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.cases.case import Case
from harness.records import results_file
from harness.records.lines import CaseRecord, ShardInfo
from harness.records.results_file import Run
from harness.system.environment import differences
from harness.system.status import UsageProblem

# Settings that say how much of a machine a run may use, and change no result that counts.
_FREE = ("OMP_", "MKL_", "ASCEND_RT_VISIBLE_DEVICES", "ASCEND_GLOBAL_", "ASCEND_SLOG_")


@dataclasses.dataclass(frozen=True)
class Resumed:
    """An earlier run and where its records lie."""

    run: Run
    directory: Path

    @property
    def parts(self) -> list[str]:
        """Ids of the runs that the records come from."""
        assert self.run.run is not None
        return list(dict.fromkeys([*self.run.run.parts, self.run.run.run_id]))

    @property
    def kept(self) -> dict[str, CaseRecord]:
        """Records that stay, by id: those with a verdict."""
        return {case.case_id: case for case in self.run.cases if not case.status.is_error}


def read(path: Path) -> Resumed:
    """Read the run to go on with.  Raises UsageProblem for a file without a run's own line."""
    run = results_file.read_run(path)
    if run.run is None:
        raise UsageProblem(f"--resume {path}: the line of the run itself is missing.")
    return Resumed(run, results_file.folder(path))


def check(
    resumed: Resumed,
    cases: Sequence[Case],
    shard: ShardInfo | None,
    settings: Mapping[str, str],
    device_kind: str,
    environment: Mapping[str, str],
) -> None:
    """Raise UsageProblem, with the first difference, unless this is the same run once more."""
    run = resumed.run.run
    assert run is not None
    now = {case.id: case.fingerprint for case in cases}
    if lost := sorted(set(run.cases) - now.keys()):
        _refuse(f"{len(lost)} of its cases are not selected ({lost[0]})", "select the same cases")
    if new := sorted(now.keys() - set(run.cases)):
        _refuse(f"{len(new)} cases are selected that it lacks ({new[0]})", "select the same cases")
    for case, fingerprint in now.items():
        # Records joined from shards do not know all of them.
        if run.fingerprints.get(case, fingerprint) != fingerprint:
            _refuse(f"{case} stands for another model or other images there", "name the same")
    old_shard, new_shard = ((s.number, s.of, s.plan) if s else None for s in (run.shard, shard))
    if old_shard != new_shard:
        _refuse("it is another shard, or none", "give the same --shard and --shard-durations")
    kind = run.device_kind
    if kind != device_kind:
        _refuse(f"it ran on {kind}, this one on {device_kind}", f"give --device {kind}")
    for name, was, value in differences(run.settings, settings, "not set"):
        _refuse(f"it had {name} {was}, this one {value}", "give the same options")
    for name, was, value in differences(run.environment, environment, "not set"):
        if not is_free(name):
            _refuse(f"{name} was {was} and is {value}", "run all cases anew")


def is_free(setting: str) -> bool:
    """Whether parts of one run may differ in this setting."""
    return setting.startswith(_FREE)


def _refuse(difference: str, remedy: str) -> None:
    raise UsageProblem(
        f"The run given with --resume cannot be completed by this one: {difference}. Its records "
        f"are untouched; {remedy}."
    )
