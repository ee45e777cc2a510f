"""pytest options and hooks of large runs: shards, resumption; the work is done elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import plugin_session, shards
from harness.cases import Case


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


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist what the controller knows."""
    plugin_session.inform_worker(node.config, node.workerinput)


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str, report: pytest.TestReport, sched: Any) -> None:
    """Record the case in flight when a worker of pytest-xdist died."""
    plugin_session.record_crash(sched.config, crashitem)


def _is_empty_set(item: pytest.Item) -> bool:
    params = getattr(getattr(item, "callspec", None), "params", {})
    return "accuracy_case" in params and not isinstance(params["accuracy_case"], Case)
