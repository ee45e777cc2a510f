"""pytest options, fixtures and hooks; the work is done elsewhere."""

from __future__ import annotations

import collections
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from pytest_metadata.plugin import metadata_key

from harness.cases.case import DTYPES, NUMERICS, TIERS, Case
from harness.devices import emulated_kernels
from harness.devices.emulator import build
from harness.entry import arguments
from harness.entry.pytest_plugin import options, ray_state, state, xdist
from harness.execution.reference import cache
from harness.execution.settings import RunSettings
from harness.records import results_file
from harness.records.lines import CaseRecord
from harness.report import junit
from harness.runs.session import Session
from harness.system import environment, quantities, signing
from harness.system.status import ExitCode, UsageProblem
from harness.upgrade import history

_FAILED: pytest.StashKey[_Failed] = pytest.StashKey()
_PROBLEM: pytest.StashKey[UsageProblem] = pytest.StashKey()
_SETTLED: pytest.StashKey[bool] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the harness' options."""
    add = options.adder(parser, pluginmanager, "accuracy", "NPU accuracy harness")
    add(
        "--device",
        default="auto",
        metavar="DEVICE",
        help="cpu, npu, npu:N, npu-emulated, cuda or auto (default: a real NPU, else the "
        "emulated one)",
    )
    add(
        "--model",
        action="append",
        default=[],
        metavar="GLOB|DIR",
        help="run these models only: a glob over model names, a timm architecture, or a timm "
        "model directory (repeatable)",
    )
    add(
        "--case-file",
        action="append",
        default=[],
        metavar="FILE",
        type=Path,
        help="read cases from this TOML file instead of cases/*.toml (repeatable)",
    )
    add("--tier", choices=TIERS, default="core", help="how many cases (default: core)")
    add("--dtype", choices=DTYPES, help="run every case in this dtype")
    add("--numerics", choices=NUMERICS, help="run every case with this numerics profile")
    add(
        "--batch-size",
        type=quantities.positive,
        metavar="N",
        help="run every case with this batch size",
    )
    add(
        "--seed",
        type=quantities.natural,
        metavar="N",
        help="seed of synthetic inputs and random weights",
    )
    add("--images", metavar="FILE|DIR", help="run every case on these images")
    arguments.add_allow_pickle(add)
    add(
        "--repeat",
        type=quantities.positive,
        default=RunSettings.repeat,
        metavar="N",
        help="forwards that must agree bit for bit (default: 2)",
    )
    add(
        "--case-timeout",
        type=quantities.seconds,
        default=RunSettings.case_timeout,
        metavar="S",
        help="seconds that each side has for one step of a case (default: 600)",
    )
    add(
        "--allow-cpu-fallback",
        action="store_true",
        help="accept operators that ran on the CPU instead of the device",
    )
    add(
        "--results",
        type=Path,
        default=None,
        metavar="DIR",
        help="where records go (default: reports/)",
    )
    add(
        "--fault-plan",
        type=Path,
        metavar="FILE",
        help="plant these faults in the emulated NPU (JSON; a fault's field `cases`, a glob over "
        "case ids, confines it)",
    )
    add(
        "--emulated-kernels",
        default=emulated_kernels.DEFAULT,
        metavar="NAME",
        help="what the emulated NPU computes with: cann, CANN's kernels as published (the "
        "default), aten, the CPU's own, or other honest ones: "
        f"{', '.join(emulated_kernels.HONEST)}",
    )
    add(
        "--operator-share",
        type=quantities.share,
        metavar="S",
        help="part of the operators to compare one by one, 0 to 1 (default: all that are "
        "declared plain float32, and 0.2 of the others)",
    )
    add(
        "--operator-standard",
        action="store_true",
        help="also say how operators compared one by one stand by CANN's own accuracy standards "
        "(information, no verdict; costs a float64 run of each)",
    )
    add(
        "--localize",
        choices=("auto", "always", "never"),
        default=RunSettings.localize,
        help="find the operator that goes wrong: in cases that fail or are inconclusive (auto, the "
        "default), in all, in none",
    )
    add(
        "--sensitivity",
        action="store_true",
        help="also measure which faults of a fixed catalogue each case would have shown (about "
        "eighty more forward passes a case)",
    )
    add(
        "--reference-cache",
        type=Path,
        metavar="DIR",
        help="where references and inputs are kept between runs (default: the cache directory)",
    )
    add(
        "--reference-cache-key",
        type=Path,
        metavar="FILE",
        help="a secret that signs references in a cache that others can write to: only what it "
        f"signed is believed (default: ${signing.KEY_VARIABLE})",
    )
    add(
        "--reference-cache-size",
        type=quantities.size,
        metavar="SIZE",
        help="how much of them is kept, such as 500MB; 0: compute references anew (default: "
        f"${cache.SIZE_VARIABLE}, else 10GB)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Reject bad input before any work is done."""
    config.stash[_FAILED] = _Failed()
    config.pluginmanager.register(config.stash[_FAILED], "harness-failed")
    if metadata_key in config.stash:
        shown = {name.casefold() for name in config.stash[metadata_key]} | {"pytest"}
        config.stash[metadata_key].update(
            {k: v for k, v in environment.capture().items() if k.casefold() not in shown}
        )
    if state.will_run_cases(config):
        state.session(config)
    images = options.get(config, "images")
    try:
        if images is not None:
            from harness.cases import image_files

            image_files.check(Path(images))
        _check_time_limit(config)
        # xdist's processes could not report a usage problem.
        if workers := config.getoption("numprocesses", None):
            state.plan(config)
            if state.will_run_cases(config):
                xdist.check_workers(config, workers, state.session(config).settings.device)
    except UsageProblem as problem:
        raise pytest.UsageError(str(problem)) from problem


def _check_time_limit(config: pytest.Config) -> None:
    """Raise UsageProblem for a time limit of pytest-timeout that would end the run itself."""
    plugins = config.pluginmanager
    if not plugins.hasplugin("timeout") or not state.will_run_cases(config):
        return
    if xdist.is_worker(config) or config.getoption("numprocesses", None):
        return  # another process takes its place
    method = config.getoption("timeout_method", None) or config.getini("timeout_method")
    limit = config.getoption("timeout", None) or config.getini("timeout")
    if method == "thread" and (limit or os.environ.get("PYTEST_TIMEOUT")):
        raise UsageProblem(
            "pytest-timeout's method `thread` ends the whole run with the first case that is late: "
            "give --timeout-method=signal, -n 1, or --case-timeout in its place."
        )


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what the run takes and why, and the versions."""
    lines = [f"accuracy harness: {environment.short()}"]
    session = state.made_session(config)
    if session is not None:
        lines.append(f"device: {session.choice}")
        if session.settings.device.emulated and state.will_run_cases(config):
            lines += [] if build.is_built() else [build.FIRST_USE]
        if session.expected is not None:
            lines.append(f"expected results: {session.expected}")
    return lines


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise every test that asks for a case."""
    if "accuracy_case" in metafunc.fixturenames:
        try:
            cases = state.plan(metafunc.config).to_run
        except UsageProblem as problem:
            # Raised here it would end as a broken test file, with another exit code.
            metafunc.config.stash[_PROBLEM] = problem
            cases = []
        metafunc.parametrize("accuracy_case", cases, ids=[case.id for case in cases])


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the results file and the processes of both sides when there are cases to run."""
    config = session.config
    if _PROBLEM in config.stash:
        raise pytest.UsageError(str(config.stash[_PROBLEM]))
    cases = [case.id for item in session.items if (case := state.case_of(item))]
    if config.option.collectonly or not (cases or state.resumes(config)):
        return
    if not xdist.is_worker(config):
        state.begin(config, cases)
    if cases and options.get(config, "ray") is None:
        state.session(config).warm_up()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: list[str]) -> None:
    """Start the results file: under xdist the controller collects nothing itself."""
    known = {case.id for case in state.plan(node.config).to_run}
    cases = [case_id for node_id in ids if (case_id := junit.case_id(node_id, known))]
    some = cases or state.resumes(node.config)
    if some and state.started_session(node.config) is None:
        state.begin(node.config, cases)


class _Failed:
    """Counts the failed tests of cases, by the case or the node."""

    def __init__(self) -> None:
        self._names: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count as pytest counts."""
        if report.failed and not hasattr(report, "wasxfail"):
            self._names.append(str(dict(report.user_properties).get("case", report.nodeid)))

    def of(self, known: Collection[str]) -> collections.Counter[str]:
        """How often each case's test failed, by id."""
        found = (name if name in known else junit.case_id(name, known) for name in self._names)
        return collections.Counter(case_id for case_id in found if case_id is not None)


@pytest.fixture
def case_record(accuracy_case: Case, request: pytest.FixtureRequest) -> CaseRecord:
    """The record of the case: both sides were built and run, and the verdict is in it."""
    try:
        record = ray_state.swept(request.config, accuracy_case.id) or state.session(
            request.config
        ).runner.run(accuracy_case)
    except UsageProblem as problem:
        pytest.exit(str(problem), returncode=ExitCode.USAGE)
    except pytest.fail.Exception as ended:
        # Another plugin's time limit, out of a signal's handler: the case is not left without word.
        record = state.session(request.config).record_ended(accuracy_case, str(ended))
        state.keep_record(request.node, record)
        raise
    state.keep_record(request.node, record)
    return record


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Close the device and settle the exit code from the records."""
    settle(session, exitstatus)


def settle(session: pytest.Session, exitstatus: int, trouble: str = "") -> None:
    """Close the device and settle the exit code, once; `trouble`: why a report was not written."""
    config = session.config
    run = state.made_session(config)
    if run is None or config.option.collectonly:
        return
    if not config.stash.get(_SETTLED, False):
        config.stash[_SETTLED] = True
        _settle(session, exitstatus, run)
    if trouble:
        config.stash.setdefault(_PROBLEM, UsageProblem(trouble))
        if session.exitstatus in (ExitCode.OK, ExitCode.IMPROVED):
            session.exitstatus = ExitCode.INFRASTRUCTURE


def _settle(session: pytest.Session, exitstatus: int, run: Session) -> None:
    config = session.config
    run.close()
    if xdist.is_worker(config) or not run.started:
        return
    # Under xdist the end that --maxfail asks for looks like an interrupt.
    enough = 0 < (config.option.maxfail or 0) <= session.testsfailed
    # An earlier run may have left nothing to do.
    empty = exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and state.resumes(config)
    if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) or (
        empty or (exitstatus == pytest.ExitCode.INTERRUPTED and enough)
    ):
        try:
            session.exitstatus = run.settle(
                session.testsfailed, config.stash[_FAILED].of(run.cases)
            )
        except UsageProblem as problem:
            config.stash[_PROBLEM] = problem
            session.exitstatus = ExitCode.USAGE
    try:
        run.end(int(session.exitstatus))
    except UsageProblem as problem:  # the disk is full: the run has no end
        config.stash[_PROBLEM] = problem
        session.exitstatus = ExitCode.USAGE


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the documented tables."""
    run = state.started_session(config)
    if run is None or config.option.collectonly:
        return
    from harness.report import text
    from harness.report.tables import trend

    result = results_file.read(run.results)
    columns = max(text.NARROWEST, shutil.get_terminal_size().columns)
    terminalreporter.section("accuracy")
    terminalreporter.write_line(
        text.render_run(
            result.cases,
            result.unfinished,
            folder=run.results.parent.resolve(),
            columns=columns,
        )
    )
    if table := trend.trend(history.of_run(run.history, result)):
        terminalreporter.write_line(f"\n{text.render_table(table, columns)}")
    if run.comparison is not None:
        terminalreporter.section("comparison")
        terminalreporter.write_line(text.render_comparison(run.comparison, columns))
    terminalreporter.write_line(
        f"Records: {run.results} (all tables: python -m harness report {run.results.parent})"
    )
    if _PROBLEM in config.stash:
        terminalreporter.write_line(f"ERROR: {config.stash[_PROBLEM]}", red=True)
