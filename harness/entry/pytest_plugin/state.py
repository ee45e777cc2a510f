"""What lives as long as a pytest run: its session, its cases, and the record of each test.

Under pytest-xdist the controller and every worker have their own; the controller alone writes the
run's first and last line.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Collection
from pathlib import Path

import pytest

from harness.cases import case_files
from harness.cases.case import Case
from harness.cases.sizes import Limits
from harness.devices import emulated_kernels, fault_plan
from harness.devices.choice import Choice
from harness.entry.pytest_plugin import options, ray_state, throughput, upgrade, xdist
from harness.execution.reference import cache
from harness.execution.settings import RunSettings
from harness.records.lines import CaseRecord
from harness.report import junit
from harness.runs import selection, shards
from harness.runs.selection import Asked, RunPlan
from harness.runs.session import Session, SessionOptions
from harness.system import signing
from harness.system.files import CASES, ROOT
from harness.system.status import UsageProblem, host_trouble

_SESSION: pytest.StashKey[Session] = pytest.StashKey()
_KNOWN: pytest.StashKey[list[Case]] = pytest.StashKey()
_PLAN: pytest.StashKey[RunPlan] = pytest.StashKey()
_RECORD: pytest.StashKey[CaseRecord] = pytest.StashKey()
_COLLECTED: pytest.StashKey[bool] = pytest.StashKey()  # tests of cases are there
# Who gives one of these in a project of his own wants cases to run.
_ABOUT_CASES = ("model", "case_file", "family")
# Options whose value is the setting of the same name.
_SAME = ("case_timeout", "repeat", "allow_cpu_fallback", "operator_share", "operator_standard",
         "sensitivity", "localize", "reference_cache", "reference_cache_key")  # fmt: skip


def session(config: pytest.Config) -> Session:
    """The run's session; made on first use.  Raises pytest.UsageError."""
    if _SESSION not in config.stash:
        try:
            config.stash[_SESSION] = _make_session(config)
        except UsageProblem as problem:
            raise pytest.UsageError(str(problem)) from problem
        except OSError as error:
            raise pytest.UsageError(host_trouble(error)) from error
    return config.stash[_SESSION]


def made_session(config: pytest.Config) -> Session | None:
    """The run's session where it was made, else None."""
    return config.stash.get(_SESSION, None)


def started_session(config: pytest.Config) -> Session | None:
    """The run's session once it has a results file; None before, and without cases."""
    run = made_session(config)
    return run if run is not None and run.started else None


def known_cases(config: pytest.Config) -> list[Case]:
    """Every case of the case files in use.  Raises UsageProblem."""
    if _KNOWN not in config.stash:
        files = options.get(config, "case_file") or sorted(CASES.glob("*.toml"))
        config.stash[_KNOWN] = [case for file in files for case in case_files.read(file)]
    return config.stash[_KNOWN]


def plan(config: pytest.Config) -> RunPlan:
    """The cases that the command line selects.  Raises UsageProblem."""
    if _PLAN not in config.stash:
        option = functools.partial(options.get, config)
        asked = Asked(
            selection=case_files.Selection(
                models=tuple(option("model")),
                families=tuple(option("family")),
                tier=option("tier"),
                dtype=option("dtype"),
                numerics=option("numerics"),
                batch_size=option("batch_size"),
                seed=option("seed"),
                images=option("images"),
                throughput=option("throughput_batches"),
                allow_pickle=option("allow_pickle"),
            ),
            limits=Limits(option("max_params"), option("max_macs"), option("max_memory")),
            shard=option("shard"),
            shard_durations=option("shard_durations"),
            resume=option("resume"),
        )
        config.stash[_PLAN] = selection.plan(known_cases(config), asked, xdist.kept(config))
    return config.stash[_PLAN]


def begin(config: pytest.Config, case_ids: Collection[str]) -> None:
    """Start the results file for the collected cases.  Raises pytest.UsageError."""
    announced = made_session(config) is not None
    config.stash[_COLLECTED] = True
    run = session(config)
    try:
        found = plan(config)
        planted, idle = run.settings.fault_plan, []
        if planted is not None and (whole := found.shard.whole if found.shard else case_ids):
            idle = fault_plan.idle_faults(planted, whole)
        run.begin(found.chosen(case_ids), found.shard, found.resumed)
    except UsageProblem as problem:
        raise pytest.UsageError(str(problem)) from problem
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and not announced:
        reporter.write_line(f"device: {run.choice}")
    if reporter is not None and idle:
        numbers = ", ".join(map(str, idle))
        reporter.write_line(f"fault plan: of no case of this run is fault {numbers}")


def record_crash(config: pytest.Config, node_id: str) -> None:
    """Record the case that a worker of pytest-xdist died with."""
    run = started_session(config)
    known = {case.id: case for case in plan(config).to_run}
    case_id = junit.case_id(node_id, known)
    if run is not None and case_id is not None:
        run.record_crash(known[case_id])


def header(config: pytest.Config) -> list[str]:
    """What limits leave out, which shard this is and what an earlier run settled."""
    if not will_run_cases(config):
        return []
    try:
        return list(plan(config).about)
    except UsageProblem:
        return []  # said when the cases are collected


def known_durations(config: pytest.Config) -> dict[str, float]:
    """Seconds of each case, by id, where an earlier run tells; for display alone."""
    found: dict[str, float] = {}
    for path in (_results_dir(config), options.get(config, "shard_durations")):
        with contextlib.suppress(UsageProblem):
            found |= shards.durations(path) if path is not None else {}
    return found


def case_of(item: pytest.Item) -> Case | None:
    """The case that a test is about; None for other tests."""
    case = getattr(getattr(item, "callspec", None), "params", {}).get("accuracy_case")
    return case if isinstance(case, Case) else None


def keep_record(item: pytest.Item, record: CaseRecord) -> None:
    """Keep the record of the case that a test ran, also as the test's properties."""
    item.stash[_RECORD] = record
    item.user_properties += junit.properties(record)


def record_of(item: pytest.Item) -> CaseRecord | None:
    """The record of the case that a test ran, None for other tests."""
    return item.stash.get(_RECORD, None)


def resumes(config: pytest.Config) -> bool:
    """Whether this process completes an earlier run."""
    return _PLAN in config.stash and config.stash[_PLAN].resumed is not None


def will_run_cases(config: pytest.Config) -> bool:
    """Whether the paths and options that pytest was given can lead to accuracy cases."""
    if config.option.collectonly:
        return False
    if config.stash.get(_COLLECTED, False):
        return True
    if home(config) != ROOT and any(options.get(config, name) for name in _ABOUT_CASES):
        return True
    given = [Path(config.invocation_params.dir, arg.partition("::")[0]) for arg in config.args]
    return any(path == CASES or path in CASES.parents or CASES in path.parents for path in given)


def home(config: pytest.Config) -> Path:
    """The project that runs: this checkout, whose conftest.py enables the plugin, or another.

    Of the checkout not pytest's rootdir: an existing path after one of our options (--images DIR)
    moves that one, because pytest settles it before it knows our options.
    """
    own = str(ROOT / "conftest.py")
    plugins = config.pluginmanager.get_plugins()
    found = any(getattr(plugin, "__file__", None) == own for plugin in plugins)
    return ROOT if found else config.rootpath


def _make_session(config: pytest.Config) -> Session:
    upgrade.check(config)
    runs_cases = will_run_cases(config)
    cluster = ray_state.of(config) if runs_cases else None
    choice = cluster.node.choice if cluster else xdist.device(config, runs_cases=runs_cases)
    settings = _settings(config, choice)
    old, fail_on = upgrade.comparison(config)
    wanted = SessionOptions(
        reason=choice.reason,
        arithmetic=upgrade.arithmetic(config),
        results_dir=_results_dir(config),
        expected=upgrade.expected_options(
            config,
            None if options.get(config, "case_file") else known_cases(config),
            home(config),
        ),
        compare=old,
        fail_on=fail_on,
        environment=cluster.node.environment if cluster is not None else None,
        key=signing.read_key(key) if (key := options.get(config, "sign")) is not None else None,
    )
    return Session(settings, wanted)


def _settings(config: pytest.Config, choice: Choice) -> RunSettings:
    option = functools.partial(options.get, config)
    plan = option("fault_plan")
    return RunSettings(
        device=choice.spec,
        fault_plan=fault_plan.read_for(plan, choice.spec) if plan is not None else None,
        emulated_kernels=emulated_kernels.check_for(option("emulated_kernels"), choice.spec),
        reference_cache_size=cache.size_limit(option("reference_cache_size")),
        throughput=throughput.plan(config),
        **{name: option(name) for name in _SAME},
    )


def _results_dir(config: pytest.Config) -> Path:
    return options.get(config, "results") or home(config) / "reports"
