"""pytest options and hooks of a sweep over a Ray cluster: this process runs no case itself."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from harness.entry.pytest_plugin import options, ray_state, state
from harness.system import quantities
from harness.system.status import UsageProblem


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the options of a cluster."""
    add = options.adder(parser, pluginmanager, "scale", "NPU accuracy harness: large runs")
    add(
        "--ray",
        metavar="HOST:PORT",
        help="run the cases on the devices of this Ray cluster (host:port), one task a case; "
        "needs the extra `ray`",
    )
    add(
        "--retries",
        type=quantities.natural,
        default=1,
        metavar="N",
        help="with --ray: run a case with trouble of the infrastructure again, up to N times "
        "(default: 1); a verdict stands",
    )


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what the cluster has."""
    return ray_state.header(config)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run the cases on the cluster; each test is run here when its case has ended there."""
    config = session.config
    run = state.made_session(config)
    if options.get(config, "ray") is None or run is None or not run.started:
        return None
    if session.testsfailed and not config.option.continue_on_collection_errors:
        raise session.Interrupted(f"{session.testsfailed} error(s) during collection")
    items = {case.id: (case, item) for item in session.items if (case := state.case_of(item))}
    others = [item for item in session.items if state.case_of(item) is None]
    try:
        for case_id in ray_state.sweep(config, run, [case for case, _ in items.values()]):
            _, item = items.pop(case_id)
            others.append(item)
            _run(session, others)
    except UsageProblem as problem:
        # What has been measured stays; the rest is missing, which has its own exit code.
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(f"\nERROR: {problem}")
    while others:
        _run(session, others)
    return True


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave the cluster."""
    ray_state.leave(config)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show how long a case took where it ran."""
    report = yield
    case = state.case_of(item)
    record = ray_state.swept(item.config, case.id) if case is not None else None
    if record is not None and report.when == "call":
        report.duration = record.duration_seconds
    return report


def _run(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Run the last of the tests."""
    item = items.pop()
    following = items[-1] if items else None
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    if session.shouldstop:
        raise session.Interrupted(session.shouldstop)
