"""pytest-html's hooks: the summary above its table, columns in it, and each case's own tables."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from harness import history, plugin, records


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the case's tables to its row."""
    report = yield
    record = plugin.record_of(item)
    if record is not None and report.when == "call" and item.config.getoption("htmlpath", None):
        from pytest_html import extras

        from harness.report import html

        found = getattr(report, "extras", [])
        report.extras = [*found, extras.html(html.render_case(record))]  # type: ignore[attr-defined]
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_html_report_title(report: Any) -> None:
    """Name the report."""
    report.title = "NPU accuracy report"


@pytest.hookimpl(optionalhook=True)
def pytest_html_results_table_header(cells: list[str]) -> None:
    """Columns to sort by."""
    from harness.report import html

    cells[2:2] = html.column_headers()


@pytest.hookimpl(optionalhook=True)
def pytest_html_results_table_row(report: pytest.TestReport, cells: list[str]) -> None:
    """What a case gave, from the report's properties: under xdist only these come along."""
    from harness.report import html

    cells[2:2] = html.columns(dict(report.user_properties))


@pytest.hookimpl(optionalhook=True)
def pytest_html_results_summary(prefix: list[str], session: pytest.Session) -> None:
    """Put the verdict, the overview and the documented tables at the top."""
    run = plugin.started_session(session.config)
    if run is None:
        return
    from harness.report import html, trend

    result = records.read(run.results)
    prefix.append(html.render_summary(result.run, result.cases, result.unfinished))
    if table := trend.trend(history.of_run(run.history, result)):
        prefix.append(html.render_table(table))
    if run.comparison is not None:
        prefix.append(html.render_comparison(run.comparison))
