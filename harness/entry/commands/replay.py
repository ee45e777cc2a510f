"""The cases of a results file as tests that repeat their verdicts: what pytest-html reports.

A page for records of any origin: of merged shards, of a resumed run, of a run that was cut short.
Nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_metadata.plugin import metadata_key

from harness.entry.arguments import run_arguments
from harness.entry.pytest_plugin import html, state
from harness.records import results_file
from harness.records.lines import CaseRecord
from harness.records.results_file import Run
from harness.report.html.words import Language
from harness.report.tables import per_case
from harness.runs import session
from harness.system import files
from harness.system.status import ExitCode, UsageProblem


def write_page(results: Path, page: Path, language: Language = "en") -> None:
    """Write the HTML report of a results file, self-contained, in a language.

    Raises UsageProblem when the file is no run or the page cannot be written.
    """
    run = results_file.read(results)
    try:
        # Beside: an older page stays until this one is whole.
        with files.replacing(page) as made:
            _write(run, results, made, language)
    except OSError as error:
        raise UsageProblem(
            f"Cannot write the page {page} ({error.strerror}): give --output FILE."
        ) from error


def _write(run: Run, results: Path, page: Path, language: Language) -> None:
    code = pytest.main(
        [
            *run_arguments()[:2],  # our pytest.ini, whatever lies where this is called
            *("-p", "no:terminal", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"),
            *("--noconftest", f"--html={page}", "--self-contained-html", str(results)),
        ],
        plugins=[html, _Replay(run, results, language)],
    )
    if code not in (ExitCode.OK, ExitCode.FAILED, ExitCode.NOTHING_SELECTED):
        raise UsageProblem(f"The page of {results} was not written: pytest ended with {code}.")


class _Replay:
    """Collects a results file."""

    def __init__(self, run: Run, results: Path, language: Language) -> None:
        self.run = run
        self.language = language
        self.results = results.resolve()

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Show the environment of the run, not of this process."""
        config.stash[html.REPLAYED] = self.results
        config.stash[html.LANGUAGE] = self.language
        if metadata_key in config.stash:
            shown = config.stash[metadata_key]
            shown.clear()
            if self.run.run is not None:
                shown.update(self.run.run.environment)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """A case took what it took in its run."""
        report = yield
        if isinstance(item, _Item) and report.when == "call":
            report.duration = item.case.duration_seconds
        return report

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> _File | None:
        """Take the results file."""
        if file_path.resolve() != self.results:
            return None
        return _File.from_parent(parent, path=file_path, run=self.run)


class _File(pytest.File):
    def __init__(self, *, run: Run, **given: Any) -> None:
        super().__init__(**given)
        self.run = run

    def collect(self) -> Iterator[pytest.Item]:
        for case in self.run.cases:
            yield _Item.from_parent(self, name=case.case_id, case=case)


class _Item(pytest.Item):
    def __init__(self, *, case: CaseRecord, **given: Any) -> None:
        super().__init__(**given)
        self.case = case
        state.keep_record(self, case)

    def runtest(self) -> None:
        if session.fails(self.case):
            sentence = self.case.expected.sentence if self.case.expected is not None else ""
            pytest.fail(sentence or per_case.conclusion(self.case), pytrace=False)
        if session.case_exit_code(self.case) is not ExitCode.OK:
            pytest.skip("The expected row was just updated.")
