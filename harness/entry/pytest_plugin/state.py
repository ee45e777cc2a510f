"""What lives as long as a pytest run: its session, its cases, and what it keeps of an earlier one.

Under pytest-xdist the controller and every worker have their own; the controller alone writes the
run's first and last line.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from pathlib import Path

import pytest

from harness.cases import case_files, sizes
from harness.cases.case import Case
from harness.cases.sizes import Limits
from harness.devices import leases
from harness.devices.choice import Choice, choose
from harness.devices.leases import Lease
from harness.devices.spec import DeviceSpec
from harness.entry.pytest_plugin import ray_state, state, throughput, upgrade
from harness.execution.reference import cache
from harness.records.lines import CaseRecord, ShardInfo
from harness.report import junit
from harness.runs import resume, shards
from harness.runs.resume import Resumed
from harness.runs.session import Session, SessionOptions
from harness.system import processor
from harness.system.files import ROOT
from harness.system.status import UsageProblem

# Not pytest's rootdir: an existing path after one of our options (--images DIR) moves that one,
# because pytest settles it before it knows our options.

_SESSION: pytest.StashKey[Session] = pytest.StashKey()
_KNOWN: pytest.StashKey[list[Case]] = pytest.StashKey()
_PLAN: pytest.StashKey[Plan] = pytest.StashKey()
_LEASES: pytest.StashKey[dict[str, Lease]] = pytest.StashKey()  # by pytest-xdist's worker
# What the controller of pytest-xdist sends to its workers.
_KEPT = "harness_kept"  # ids
_DEVICE = "harness_device"  # kind, index, reason


@dataclasses.dataclass(frozen=True)
class Plan:
    """The cases of this run; `kept`: ids of those that an earlier run settled."""

    cases: list[Case]
    shard: ShardInfo | None = None
    resumed: Resumed | None = None
    kept: frozenset[str] = frozenset()
    left_out: str = ""  # how many, and by which limits

    @property
    def to_run(self) -> list[Case]:
        """The cases that are run here."""
        return [case for case in self.cases if case.id not in self.kept]


def session(config: pytest.Config) -> Session:
    """The run's session; made on first use.  Raises pytest.UsageError."""
    if _SESSION not in config.stash:
        option = config.getoption
        try:
            upgrade.check(config)
            cluster = ray_state.of(config) if will_run_cases(config) else None
            config.stash[_SESSION] = Session(
                SessionOptions(
                    choice=cluster.node.choice if cluster is not None else _choose(config),
                    environment=cluster.node.environment if cluster is not None else None,
                    results_dir=option("results") or ROOT / "reports",
                    case_timeout=option("case_timeout"),
                    repeat=option("repeat"),
                    allow_cpu_fallback=option("allow_cpu_fallback"),
                    fault_plan=option("fault_plan"),
                    operator_share=option("operator_share"),
                    sensitivity=option("sensitivity"),
                    localize=option("localize"),
                    reference_cache=option("reference_cache"),
                    reference_cache_size=cache.size_limit(option("reference_cache_size")),
                    expected=upgrade.expected_options(
                        config, None if option("case_file") else known_cases(config)
                    ),
                    compare=option("compare"),
                    compare_fail=option("compare_fail"),
                    throughput=throughput.plan(config),
                )
            )
        except UsageProblem as problem:
            raise pytest.UsageError(str(problem)) from problem
    return config.stash[_SESSION]


def made_session(config: pytest.Config) -> Session | None:
    """The run's session where it was made, else None."""
    return config.stash.get(_SESSION, None)


def known_cases(config: pytest.Config) -> list[Case]:
    """Every case of the case files in use.  Raises UsageProblem."""
    if _KNOWN not in config.stash:
        files = config.getoption("case_file") or sorted((ROOT / "cases").glob("*.toml"))
        config.stash[_KNOWN] = [case for file in files for case in case_files.read(file)]
    return config.stash[_KNOWN]


def plan(config: pytest.Config) -> Plan:
    """The cases that the command line selects.  Raises UsageProblem."""
    if _PLAN not in config.stash:
        option = config.getoption
        selection = case_files.Selection(
            models=tuple(option("model")),
            families=tuple(option("family")),
            tier=option("tier"),
            dtype=option("dtype"),
            numerics=option("numerics"),
            batch_size=option("batch_size"),
            seed=option("seed"),
            images=option("images"),
            throughput=option("throughput_batches"),
        )
        selected = case_files.select(known_cases(config), selection)
        limits = Limits(option("max_params"), option("max_macs"), option("max_memory"))
        cases = sizes.apply(selected, limits)
        left_out = f"{limits} leaves out {len(selected) - len(cases)} of {len(selected)} cases"
        shard: ShardInfo | None = None
        if option("shard"):
            source = option("shard_durations")
            seconds = shards.durations(source) if source is not None else sizes.weights(cases)
            cases, shard = shards.choose(cases, seconds, option("shard"))
        resumed, kept = None, frozenset[str]()
        if is_xdist_worker(config):
            # Not read again: the controller may have replaced the file meanwhile.
            kept = frozenset(config.workerinput[_KEPT])  # type: ignore[attr-defined]
        elif option("resume") is not None:
            resumed = resume.read(option("resume"))
            kept = frozenset(resumed.kept)
        config.stash[_PLAN] = Plan(
            cases, shard, resumed, kept, left_out if len(cases) < len(selected) else ""
        )
    return config.stash[_PLAN]


def inform_worker(config: pytest.Config, worker: str, workerinput: dict[str, object]) -> None:
    """Give a worker of pytest-xdist its device, and tell it what the controller knows.

    Raises pytest.UsageError when there are fewer free devices than workers.
    """
    if not will_run_cases(config):
        return
    choice = session(config).choice
    try:
        lease = leases.take(choice.spec, exact=_names_index(config))
        workerinput[_KEPT] = sorted(plan(config).kept)
    except UsageProblem as problem:
        raise pytest.UsageError(str(problem)) from problem
    _leases(config)[worker] = lease
    workerinput[_DEVICE] = (lease.spec.kind, lease.spec.index, choice.reason)


def end_lease(config: pytest.Config, worker: str) -> None:
    """Take the device of a worker of pytest-xdist that ended: another will get it."""
    lease = _leases(config).pop(worker, None)
    if lease is not None:
        lease.release()


def auto_workers(config: pytest.Config) -> int | None:
    """What `-n auto` means: one process per device; None where pytest-xdist is to decide.

    Emulated devices compute on this host's cores, so that there are not more of them.  Raises
    UsageProblem when the device is not there.
    """
    if not will_run_cases(config):
        return None
    spec = choose(config.getoption("device")).spec
    count = 1 if _names_index(config) else len(leases.devices_of(spec.kind))
    return (min(count, len(processor.affinity())) if spec.emulated else count) or None


def check_workers(config: pytest.Config, workers: int) -> None:
    """Raise UsageProblem when more processes than devices are asked for."""
    spec = session(config).choice.spec
    names = leases.devices_of(spec.kind)
    count = 1 if _names_index(config) else len(names)
    if names and workers > count:
        raise UsageProblem(
            f"-n {workers} asks for more processes than the {count} device(s) that --device "
            f"{config.getoption('device')} stands for: give -n auto."
        )


def share_threads(workers: int) -> None:
    """Give this process, and its device's, a fair part of the host's cores.

    A number of threads that the caller set stays.  Without this every worker's CPU legs would
    use all cores at once.
    """
    if not os.environ.get("OMP_NUM_THREADS"):
        threads = max(1, len(processor.affinity()) // workers)
        os.environ["OMP_NUM_THREADS"] = str(threads)
        if "torch" in sys.modules:  # it has read the variable already
            sys.modules["torch"].set_num_threads(threads)


def begin(config: pytest.Config, node_ids: list[str]) -> None:
    """Start the results file for the collected cases.  Raises pytest.UsageError."""
    announced = made_session(config) is not None
    run = session(config)
    try:
        found = plan(config)
        ids = {junit.case_id(node_id) for node_id in node_ids}
        chosen = [case for case in found.cases if case.id in ids]
        if found.shard is not None or found.resumed is not None:
            if len(chosen) < len(found.to_run):
                raise UsageProblem(
                    "--shard and --resume go by what --model, --tier and case files select: "
                    f"-k, --deselect or a test's own name leave only {len(chosen)} of "
                    f"{len(found.to_run)} cases; select without these."
                )
            chosen = found.cases
        run.begin(chosen, found.shard, found.resumed)
    except UsageProblem as problem:
        raise pytest.UsageError(str(problem)) from problem
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and not announced:
        reporter.write_line(f"device: {run.choice}")


def record_crash(config: pytest.Config, node_id: str) -> None:
    """Record the case that a worker of pytest-xdist died with."""
    run = made_session(config)
    case = {case.id: case for case in plan(config).to_run}.get(junit.case_id(node_id))
    if run is not None and run.started and case is not None:
        run.record_crash(case)


def header(config: pytest.Config) -> list[str]:
    """What limits leave out, which shard this is and what an earlier run settled."""
    if not will_run_cases(config):
        return []
    try:
        found = plan(config)
    except UsageProblem:
        return []  # said when the cases are collected
    lines = [found.left_out] if found.left_out else []
    if found.shard is not None:
        shard = config.getoption("shard")
        lines.append(f"shard {shard}: {len(found.cases)} of {len(found.shard.whole)} cases")
    if found.resumed is not None:
        lines.append(
            f"resumed: {len(found.kept)} of {len(found.cases)} cases have a verdict in "
            f"{config.getoption('resume')}"
        )
    return lines


def known_durations(config: pytest.Config) -> dict[str, float]:
    """Seconds of each case, by id, where an earlier run tells; for display alone."""
    results = config.getoption("results") or ROOT / "reports"
    found: dict[str, float] = {}
    for path in (results, config.getoption("shard_durations")):
        with contextlib.suppress(UsageProblem):
            found |= shards.durations(path) if path is not None else {}
    return found


def case_of(item: pytest.Item) -> Case | None:
    """The case that a test is about; None for other tests."""
    case = getattr(getattr(item, "callspec", None), "params", {}).get("accuracy_case")
    return case if isinstance(case, Case) else None


def resumes(config: pytest.Config) -> bool:
    """Whether this process completes an earlier run."""
    return _PLAN in config.stash and config.stash[_PLAN].resumed is not None


def has_results(config: pytest.Config) -> bool:
    """Whether this process started the results file."""
    run = made_session(config)
    return run is not None and run.started


def will_run_cases(config: pytest.Config) -> bool:
    """Whether the paths that pytest was given can lead to the accuracy cases."""
    if config.option.collectonly:
        return False
    given = [Path(config.invocation_params.dir, arg.partition("::")[0]) for arg in config.args]
    cases = ROOT / "cases"
    return any(path == cases or path in cases.parents or cases in path.parents for path in given)


def is_xdist_worker(config: pytest.Config) -> bool:
    """Whether this process is a worker of pytest-xdist."""
    return hasattr(config, "workerinput")


def _choose(config: pytest.Config) -> Choice:
    """The device of this process, taken for it; the controller of pytest-xdist takes none."""
    if is_xdist_worker(config):
        kind, index, reason = config.workerinput[_DEVICE]  # type: ignore[attr-defined]
        return Choice(DeviceSpec(kind, index), reason)
    choice = choose(config.getoption("device"))
    if config.getoption("numprocesses", None) or not will_run_cases(config):
        return choice
    lease = leases.take(choice.spec, exact=_names_index(config))
    _leases(config)[""] = lease
    return Choice(lease.spec, choice.reason)


def _names_index(config: pytest.Config) -> bool:
    return ":" in config.getoption("device")


def _leases(config: pytest.Config) -> dict[str, Lease]:
    return config.stash.setdefault(_LEASES, {})


RECORD: pytest.StashKey[CaseRecord] = pytest.StashKey()


def keep_record(item: pytest.Item, record: CaseRecord) -> None:
    """Keep the record of the case that a test ran, also as the test's properties."""
    item.stash[RECORD] = record
    item.user_properties += junit.properties(record)


def record_of(item: pytest.Item) -> CaseRecord | None:
    """The record of the case that a test ran, None for other tests."""
    return item.stash.get(RECORD, None)


def started_session(config: pytest.Config) -> Session | None:
    """The run's session once it has a results file; None before, and without cases."""
    run = state.made_session(config)
    return run if state.has_results(config) else None
