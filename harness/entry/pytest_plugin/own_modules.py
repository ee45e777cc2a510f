"""The fixture that judges modules of a test's own, and their records.

A record goes to the run's results file by way of the test's report: under pytest-xdist the worker
has it, and the controller alone knows whether there is a file yet.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from harness.entry import judgement
from harness.entry.judgement import Judgement
from harness.entry.pytest_plugin import options, state, xdist
from harness.records.lines import CaseRecord
from harness.system.status import ExitCode, UsageProblem

if TYPE_CHECKING:
    from harness.runs.runner import CaseRunner

_RUNNER: pytest.StashKey[CaseRunner] = pytest.StashKey()
_SEEN: pytest.StashKey[set[str]] = pytest.StashKey()
_PROPERTY = "harness_record"


@pytest.fixture
def assert_same_on_device(request: pytest.FixtureRequest) -> Callable[..., Judgement]:
    """`harness.api.assert_same_on` for the run's --device, with a row of the run's report.

    Called as `assert_same_on_device(module, inputs)`; `dtype`, `numerics` and `name` as there,
    where --dtype and --numerics are what holds when they are not given.
    """

    def judged(
        module: Any,
        inputs: Any,
        *,
        dtype: str | None = None,
        numerics: str | None = None,
        name: str | None = None,
    ) -> Judgement:
        __tracebackhide__ = True
        option = functools.partial(options.get, request.config)
        dtype = dtype or option("dtype") or "float32"
        numerics = numerics or option("numerics") or "default"
        judgement.check_arguments(dtype, numerics)
        runner = _runner(request.config)
        record = judgement.judge_by(
            runner, module, inputs, dtype=dtype, numerics=numerics, name=name or request.node.name
        )
        state.keep_record(request.node, record)
        request.node.user_properties.append((_PROPERTY, record.model_dump_json()))
        directory = state.session(request.config).results.parent
        return judgement.check(Judgement(record, directory))

    return judged


def _runner(config: pytest.Config) -> CaseRunner:
    if _RUNNER not in config.stash:
        session = state.session(config)
        try:
            config.stash[_RUNNER] = session.runner_apart(session.results.parent)
        except UsageProblem as problem:
            pytest.exit(str(problem), returncode=ExitCode.USAGE)
    return config.stash[_RUNNER]


class Records:
    """Takes the records from the reports of tests, in the process that writes them."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    @pytest.hookimpl(tryfirst=True)  # before JUnit's writer, which would keep them
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write what came along; the same properties come with every phase of a test."""
        given = [str(value) for name, value in report.user_properties if name == _PROPERTY]
        report.user_properties[:] = [
            pair for pair in report.user_properties if pair[0] != _PROPERTY
        ]
        seen = self.config.stash.setdefault(_SEEN, set())
        for text in given:
            if text not in seen:
                seen.add(text)
                _write(self.config, CaseRecord.model_validate_json(text))


def _write(config: pytest.Config, record: CaseRecord) -> None:
    session = state.session(config)
    if not session.started:
        state.begin(config, [])
    session.add(record)


def pytest_configure(config: pytest.Config) -> None:
    """Take records where they are written."""
    if not xdist.is_worker(config):
        config.pluginmanager.register(Records(config), "harness-own-modules")
