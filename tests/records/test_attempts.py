"""Of several records of one case the worse verdict stands, wherever they come from."""

import itertools

import pytest

from harness.records import attempts, results_file
from harness.records.expectation import Expectation, Outcome
from harness.records.throughput import Throughput, ThroughputPlan
from harness.runs import session
from harness.runs.merge import merge
from harness.system.status import ExitCode, Status, UsageProblem
from tests.makers.records import case_record, measured, run_record

P, F, N, I, E, O = (Status.PASS, Status.FAIL_ACCURACY, Status.FAIL_NAN, Status.INCONCLUSIVE,  # noqa: E741
                 Status.ERROR_CRASH, Status.ERROR_OOM)  # fmt: skip


def tries(*statuses):
    return [case_record("a", status, duration_seconds=1.0 + i) for i, status in enumerate(statuses)]


def read_back(path, records):
    results_file.append(path, run_record(records[0].case_id))
    for record in records:
        results_file.append(path, record)
    return results_file.read(path)


@pytest.mark.parametrize(
    ("statuses", "stands", "code"),
    [
        ((N, P), N, ExitCode.FAILED),
        ((P, N), N, ExitCode.FAILED),
        ((N, P, P), N, ExitCode.FAILED),
        ((P, I, P), I, ExitCode.FAILED),
        ((Status.FLAKY, F), Status.FLAKY, ExitCode.FAILED),
        ((E, P), P, ExitCode.OK),
        ((P, E), P, ExitCode.OK),
        ((E, N, E, P), N, ExitCode.FAILED),
        ((E, O), O, ExitCode.INFRASTRUCTURE),
        ((P, P), P, ExitCode.OK),
    ],
)
def test_the_worse_verdict_stands_and_every_try_is_named(tmp_path, statuses, stands, code):
    run = read_back(tmp_path / "results.jsonl", tries(*statuses))
    (case,) = run.cases
    assert (case.status, case.attempts) == (stands, list(statuses))
    assert case.notes[0].startswith(
        f"Tried {len(statuses)} times: {', then '.join(status.value for status in statuses)}."
    )
    assert session.exit_code(run) is code


@pytest.mark.parametrize("order", list(itertools.permutations((N, P, F, E))))
def test_what_stands_does_not_depend_on_the_order(tmp_path, order):
    assert read_back(tmp_path / "results.jsonl", tries(*order)).cases[0].status is N


def test_of_two_passes_the_one_that_is_further_off_stands(tmp_path):
    further, nearer = measured(2.5, duration_seconds=1.0), measured(1.0, duration_seconds=2.0)
    assert attempts.stands(further, nearer).budget_ratio == 2.5
    assert attempts.stands(nearer, further).budget_ratio == 2.5


def test_a_record_written_anew_with_more_in_it_is_one_try(tmp_path):
    first = case_record("a", duration_seconds=1.0)
    more = first.model_copy(update={"log_tail": "more"})
    assert read_back(tmp_path / "results.jsonl", [first, more]).cases == [more]


def test_tries_that_differ_fail_the_run_even_where_the_failure_is_expected():
    known = Expectation(outcome=Outcome.KNOWN)
    failed, passed = tries(F, P)
    kept = attempts.stands(failed.model_copy(update={"expected": known}), passed)
    assert session.case_exit_code(kept) is ExitCode.FAILED and session.fails(kept)


def test_what_was_tried_stays_said_after_merging_again(tmp_path):
    for name, records in {"one": tries(N, P), "two": tries(P)}.items():
        record = run_record(records[0].case_id).model_copy(update={"run_id": name})
        results_file.start(tmp_path / name, record, records)
    merged = merge([tmp_path / "one", tmp_path / "two"], tmp_path / "whole")
    (case,) = results_file.read_run(tmp_path / "whole").cases
    assert (case.status, case.attempts) == (N, [N, P, P])
    assert [note for note in case.notes if note.startswith("Tried")] == [
        "Tried 3 times: fail_nan, then pass, then pass. The worse verdict stands; run it again to "
        "see which holds."
    ]
    assert merged.code is ExitCode.FAILED


def test_a_record_whose_tries_gave_another_status_is_refused(tmp_path):
    (tmp_path / "results.jsonl").write_text("")
    with pytest.raises(UsageProblem, match="its tries gave fail_nan, pass"):
        read_back(tmp_path / "results.jsonl", [case_record("a", P, attempts=[N, P])])


def test_a_record_that_its_timed_batches_made_worse_is_no_second_try():
    first = case_record("a", P, duration_seconds=3.0)
    plan = ThroughputPlan((8,))
    timed = first.model_copy(
        update={"status": Status.FAIL_ACCURACY, "throughput": Throughput(plan)}
    )
    assert attempts.stands(first, timed) == timed
