"""pytest options and hooks of large runs: what to run, where and what is left to run."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from harness.cases import sizes
from harness.cases.case import Case
from harness.entry.pytest_plugin import listing, live_view, options, state, xdist
from harness.runs import follower, shards
from harness.runs.progress import Progress
from harness.system import quantities
from harness.system.status import ExitCode, Status, UsageProblem


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the options of large runs."""
    add = options.adder(parser, pluginmanager, "scale", "NPU accuracy harness: large runs")
    add(
        "--list",
        action="store_true",
        help="print what would run, with parameters, input size and estimated cost, and end",
    )
    add(
        "--family",
        action="append",
        default=[],
        metavar="GLOB",
        help="run all architectures of these families, which are timm's modules, such as resnet "
        "or vision_transformer (repeatable)",
    )
    add("--max-params", type=sizes.count, metavar="N", help="leave out larger models, as in 30M")
    add("--max-macs", type=sizes.count, metavar="N", help="leave out models with more "
        "multiply-accumulates an image, as in 5G")  # fmt: skip
    add("--max-memory", type=quantities.size, metavar="SIZE", help="leave out cases that need more "
        "memory on the device for weights and their largest operator, as in 8GB")  # fmt: skip
    add(
        "--shard",
        type=shards.parse,
        metavar="I/N",
        help="run part I of N; `python -m harness merge` joins the records of all parts",
    )
    add(
        "--shard-durations",
        type=Path,
        metavar="FILE",
        help="divide by the durations in this results or history file, the same for all shards "
        "(default: by the sizes of the models)",
    )
    add(
        "--progress",
        type=quantities.natural,
        default=30,
        metavar="S",
        help="where the output is no terminal, or with -v: say every S seconds how many cases are "
        "done, how they ended and how long the rest will take (default: 30); 0, or pytest's -q: "
        "no lines, and no live view on a terminal",
    )
    add(
        "--resume",
        type=Path,
        metavar="RUN",
        help="keep the verdicts of this results file (or the one in a folder), and run what is "
        "missing there or ended with trouble of the infrastructure",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Print the cases and end, when that was asked for."""
    if not options.get(config, "list"):
        return None
    try:
        plan = state.plan(config)
    except UsageProblem as problem:
        raise pytest.UsageError(str(problem)) from problem
    print(listing.render(plan.to_run, state.known_durations(config)))
    if plan.left_out:
        print(plan.left_out)
    return ExitCode.OK if plan.to_run else ExitCode.NOTHING_SELECTED


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what limits leave out, which shard this is and what an earlier run settled."""
    return state.header(config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Drop the item that pytest makes for an empty list of cases: it would count as skipped."""
    items[:] = [item for item in items if not _is_empty_set(item)]


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Share the host's cores out among the workers of pytest-xdist, before processes start."""
    if xdist.is_worker(config):
        xdist.share_threads(config)
    elif options.get(config, "progress") and (verbose := config.getoption("verbose", 0)) >= 0:
        # Either plugin of pytest's own may have been left out.
        free = config.getoption("capture", "no") != "no" and config.pluginmanager.hasplugin(
            "terminal"
        )
        shown = _LiveView if free and not verbose and sys.stdout.isatty() else _ProgressLines
        config.pluginmanager.register(shown(config), "harness-progress")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Make `-n auto` one process per device."""
    if not state.will_run_cases(config):
        return None
    try:
        return xdist.auto_workers(config)
    except UsageProblem as problem:
        raise pytest.UsageError(str(problem)) from problem


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give a worker of pytest-xdist its device, and tell it what the controller knows."""
    if not state.will_run_cases(node.config):
        return
    choice = state.session(node.config).choice
    try:
        kept = state.plan(node.config).kept
        xdist.inform(node.config, node.gateway.id, node.workerinput, choice, kept)
    except UsageProblem as problem:
        raise pytest.UsageError(str(problem)) from problem


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take back the device of a worker of pytest-xdist that ended or died."""
    xdist.end_lease(node.config, node.gateway.id)


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str, report: pytest.TestReport, sched: Any) -> None:
    """Record the case in flight when a worker of pytest-xdist died."""
    state.record_crash(sched.config, crashitem)


class _ProgressLines:
    """Writes a line now and then; with -q there is none."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.progress: Progress | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a case when its verdict is there, or its process died."""
        run = state.made_session(self.config)
        if run is None or not run.started:
            return
        given = dict(report.user_properties)
        status = given.get("status")
        crashed = str(report.when) == "???"  # as pytest-xdist reports it
        if not crashed and (report.when != "call" or status is None):
            return
        if self.progress is None:
            self.progress = Progress(run.to_run, run.began, options.get(self.config, "progress"))
        found = Status.ERROR_CRASH if crashed else Status(status)
        case_id = str(given.get("case", report.nodeid))
        line = self.progress.ended(case_id, found, time.monotonic())
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if line is not None and reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(line)


class _LiveView:
    """Shows on a terminal what the run does, in place of pytest's letters."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.live = False

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """Show it as long as cases run."""
        if not state.will_run_cases(self.config):
            return (yield)
        reporter = self.config.pluginmanager.getplugin("terminalreporter")
        reporter.showfspath = reporter._show_progress_info = False
        self.live = True
        try:
            with live_view.View(sys.stdout, self._begun):
                return (yield)
        finally:
            self.live = False

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_report_teststatus(
        self, report: pytest.TestReport
    ) -> Generator[None, tuple[str, Any, Any], tuple[str, Any, Any]]:
        """Count a test as ever, and print nothing."""
        category, letter, word = yield
        return (category, "", "") if self.live else (category, letter, word)

    def _begun(self) -> tuple[follower.Follower, Progress] | None:
        run = state.made_session(self.config)
        if run is None or not run.started:
            return None
        return follower.Follower(run.results), Progress(run.to_run, run.began, 0.0)


def _is_empty_set(item: pytest.Item) -> bool:
    params = getattr(getattr(item, "callspec", None), "params", {})
    return "accuracy_case" in params and not isinstance(params["accuracy_case"], Case)
