"""pytest-html's hooks: the summary above its table, columns in it, and each case's own tables."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.entry.pytest_plugin import accuracy, options, state
from harness.records import results_file
from harness.report.html.assets import STYLESHEET
from harness.system import environment, files
from harness.system.status import host_trouble
from harness.upgrade import history

if TYPE_CHECKING:
    from harness.report.html.words import Language

# Options with a file that is written when the run is over.
_REPORTS = {"htmlpath": "--html", "xmlpath": "--junitxml"}
# A results file whose cases are only shown, by `replay.py`.
REPLAYED: pytest.StashKey[Path] = pytest.StashKey()
LANGUAGE: pytest.StashKey[Language] = pytest.StashKey()


@pytest.hookimpl(tryfirst=True)  # pytest-html reads the style when it is configured itself
def pytest_configure(config: pytest.Config) -> None:
    """Give pytest-html our style and hooks, where a page is asked for.

    That a report cannot be written is said before the run, not after hours of it.
    """
    runs = options.added(config)  # not a page of records alone
    if runs and state.will_run_cases(config):
        for option, name in _REPORTS.items():
            if path := config.getoption(option, None):
                try:
                    files.check_writable(Path(path))
                except OSError as error:
                    raise pytest.UsageError(
                        f"{name} {path} cannot be written ({error.strerror}): give another path."
                    ) from error
    if hasattr(config.option, "css") and config.getoption("htmlpath", None):
        config.option.css.append(str(STYLESHEET))
        config.option.self_contained_html = True  # one file, which can be sent on
        config.pluginmanager.register(_Page(config), "harness-page")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give the case's row a place for its details."""
    report = yield
    record = state.record_of(item)
    if record is not None and report.when == "call" and item.config.getoption("htmlpath", None):
        from pytest_html import extras

        from harness.report.html import fragments

        found = getattr(report, "extras", [])
        place = extras.html(fragments.place_of(record.case_id))
        place = {key: place[key] for key in ("content", "format_type", "extension")}
        report.extras = [*found, place]  # type: ignore[attr-defined]
    return report


@pytest.hookimpl(wrapper=True, trylast=True)  # the summary is written outside of it
def pytest_sessionfinish(
    session: pytest.Session, exitstatus: int
) -> Generator[None, object, object]:
    """Let a report that cannot be written cost neither the verdict nor its exit code."""
    try:
        return (yield)
    except OSError as error:
        if state.started_session(session.config) is None:
            raise
        accuracy.settle(session, exitstatus, host_trouble(error))
        return None


class _Page:
    """The hooks of one page; `rows`: ids of the cases that have a row."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.rows: set[str] = set()
        self.report: Any = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_report_title(self, report: Any) -> None:
        """Name the report; pytest-html takes the values of the environment for HTML."""
        from harness.report.html import fragments

        self.report = report
        report.title = "NPU accuracy report"
        found = report.data["environment"]
        if REPLAYED not in self.config.stash:  # not what pytest-metadata takes from CI systems
            kept = {key: found[key] for key in ("Packages", "Plugins") if key in found}
            found = {**kept, **environment.capture()}
        report.set_data("environment", fragments.escaped(found))
        report.set_data("renderCollapsed", ["all"])  # the summary shows what did not pass

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_header(self, cells: list[str]) -> None:
        """Columns to sort by."""
        from harness.report.html import fragments

        cells[:] = fragments.headers(cells)

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_row(self, report: pytest.TestReport, cells: list[str]) -> None:
        """What a case gave, from the report's properties: under xdist only these come along."""
        from harness.report.html import fragments

        properties = dict(report.user_properties)
        cells[:] = fragments.row(cells, properties)
        if "case" in properties:
            self.rows.add(str(properties["case"]))

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_summary(
        self, prefix: list[str], summary: list[str], postfix: list[str]
    ) -> None:
        """Put the verdict, the overview and the documented tables at the top."""
        run = state.started_session(self.config)
        results = run.results if run else self.config.stash.get(REPLAYED, None)
        if results is None:
            return
        from harness.report.html import fragments, page
        from harness.report.tables import provenance

        found = results_file.read(results)
        known = self.report.data["environment"]
        hardware = fragments.escaped(provenance.hardware(found.run, found.cases))
        self.report.set_data("environment", {**hardware, **known, **hardware})
        prefix.append(page.render_summary(found.run, found.cases, found.unfinished))
        prefix.append(page.render_trend(history.of_run(results.parent / "history", found)))
        if run is not None and run.comparison is not None:
            prefix.append(fragments.render_comparison(run.comparison))
        if run is None:  # the seconds that pytest-html counts are those of the page, not of the run
            prefix.append("<style>.run-count { display: none; }</style>")
        prefix.append('<h2 id="harness-results">Results</h2>')
        summary.append(page.render_controls(found.cases, self.rows))
        postfix.append(page.render_scripts(found.cases, self.config.stash.get(LANGUAGE, "en")))
