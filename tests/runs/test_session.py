import pytest

from harness.records.expectation import Expectation, Outcome
from harness.records.results_file import Run
from harness.runs.session import exit_code, fails
from harness.system.status import ExitCode, Status
from tests.makers.records import case_record, run_record


def run(*statuses: Status, missing: int = 0) -> Run:
    cases = [case_record(f"m{i}", status) for i, status in enumerate(statuses)]
    selected = [case.case_id for case in cases] + [f"missing{i}" for i in range(missing)]
    return Run(run=run_record(*selected), cases=cases, end=None)


P, F, E, I = Status.PASS, Status.FAIL_ACCURACY, Status.ERROR_CRASH, Status.INCONCLUSIVE  # noqa: E741


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (run(P, P), ExitCode.OK),
        (run(P, F), ExitCode.FAILED),
        (run(P, I), ExitCode.FAILED),
        (run(P, E), ExitCode.INFRASTRUCTURE),
        (run(P, missing=1), ExitCode.INCOMPLETE),
        (run(F, E, missing=1), ExitCode.FAILED),
        (run(E, missing=1), ExitCode.INCOMPLETE),
    ],
)
def test_precedence_of_exit_codes(result, code):
    assert exit_code(result) is code


def test_a_broken_test_is_a_failure():
    assert exit_code(run(P), other_failures=1) is ExitCode.FAILED


@pytest.mark.parametrize("status", [s for s in Status if s.value.startswith("fail_")])
def test_every_failure_status_fails_the_run(status):
    assert exit_code(run(status)) is ExitCode.FAILED


def expected(status: Status, outcome: Outcome) -> Run:
    case = case_record(status=status, expected=Expectation(outcome=outcome))
    return Run(run=run_record(case.case_id), cases=[case], end=None)


@pytest.mark.parametrize(
    ("status", "outcome", "code", "test_fails"),
    [
        (P, Outcome.SAME, ExitCode.OK, False),
        (F, Outcome.KNOWN, ExitCode.OK, False),
        (E, Outcome.KNOWN, ExitCode.OK, False),
        (P, Outcome.WORSE, ExitCode.FAILED, True),
        (F, Outcome.WORSE, ExitCode.FAILED, True),
        (P, Outcome.IMPROVED, ExitCode.IMPROVED, True),
        (F, Outcome.IMPROVED, ExitCode.IMPROVED, True),
        (P, Outcome.NEW, ExitCode.IMPROVED, True),
        (F, Outcome.NEW, ExitCode.FAILED, True),
        (E, Outcome.UNJUDGED, ExitCode.INFRASTRUCTURE, True),
        (P, Outcome.UPDATED, ExitCode.IMPROVED, False),
        (F, Outcome.UPDATED, ExitCode.IMPROVED, False),
    ],
)
def test_exit_codes_beside_expected_rows(status, outcome, code, test_fails):
    run = expected(status, outcome)
    assert exit_code(run) is code
    assert fails(run.cases[0]) is test_fails


def test_precedence_holds_for_improved_results():
    better, error = expected(P, Outcome.IMPROVED), expected(E, Outcome.UNJUDGED)
    both = Run(run=None, cases=[*better.cases, *error.cases], end=None)
    assert exit_code(both) is ExitCode.INFRASTRUCTURE
    assert exit_code(better, ended=False) is ExitCode.INCOMPLETE
    assert exit_code(better, other_failures=1) is ExitCode.FAILED


def test_a_run_cut_short_after_its_last_case_is_incomplete():
    assert exit_code(run(P), ended=False) is ExitCode.INCOMPLETE
