"""pytest options and hooks of large runs: shards, resumption; the work is done elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import plugin_session, shards
from harness.cases import Case
from harness.status import UsageProblem


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of large runs."""
    add = parser.getgroup("scale", "NPU accuracy harness: large runs").addoption
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
        "(default: by number)",
    )
    add(
        "--resume",
        type=Path,
        metavar="RUN",
        help="keep the verdicts of this results file (or the one in a folder), and run what is "
        "missing there or ended with trouble of the infrastructure",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Drop the item that pytest makes for an empty list of cases: it would count as skipped."""
    items[:] = [item for item in items if not _is_empty_set(item)]


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Share the host's cores out among the workers of pytest-xdist, before torch is loaded."""
    if plugin_session.is_xdist_worker(config):
        plugin_session.share_threads(config.workerinput["workercount"])  # type: ignore[attr-defined]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Make `-n auto` one process per device."""
    try:
        return plugin_session.auto_workers(config)
    except UsageProblem as problem:
        raise pytest.UsageError(str(problem)) from problem


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give a worker of pytest-xdist its device, and tell it what the controller knows."""
    plugin_session.inform_worker(node.config, node.gateway.id, node.workerinput)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take back the device of a worker of pytest-xdist that ended or died."""
    plugin_session.end_lease(node.config, node.gateway.id)


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str, report: pytest.TestReport, sched: Any) -> None:
    """Record the case in flight when a worker of pytest-xdist died."""
    plugin_session.record_crash(sched.config, crashitem)


def _is_empty_set(item: pytest.Item) -> bool:
    params = getattr(getattr(item, "callspec", None), "params", {})
    return "accuracy_case" in params and not isinstance(params["accuracy_case"], Case)
