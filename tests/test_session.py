import pytest
from test_records import case_record, run_record

from harness.records import Run
from harness.session import exit_code
from harness.status import ExitCode, Status


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
