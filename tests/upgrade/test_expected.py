import dataclasses

import pytest

from harness.judgement.budget import EXACT_LIMIT
from harness.judgement.localization import Localization
from harness.judgement.operator_rows import CannMethod, OperatorCheck, OperatorRow, summarise
from harness.records.expectation import ExpectedRow, Outcome
from harness.system.status import Finding, Stage, Status
from harness.upgrade.expected import Expected, Update, compare, error_rate_tolerance
from tests.makers import localization as made
from tests.makers.records import case_record, measured

LINK = {"reason": "kernel X", "link": "https://tracker/1"}


ROW = ExpectedRow(status=Status.PASS, budget_ratio=1.0, error_rate_percent=3e-4, top1="6/6")


@pytest.mark.parametrize(
    ("record", "outcome"),
    [
        (measured(1.0), Outcome.SAME),
        (measured(2.19), Outcome.SAME),
        (measured(2.21), Outcome.WORSE),
        (measured(1 / 2.19), Outcome.SAME),
        (measured(1 / 2.21), Outcome.IMPROVED),
        (measured(3.3, limit=EXACT_LIMIT), Outcome.SAME),
        (measured(3.5, limit=EXACT_LIMIT), Outcome.WORSE),
        (measured(float("nan")), Outcome.WORSE),
        (measured(top1=5), Outcome.WORSE),
        (measured(errors=(3e-5,) * 6), Outcome.SAME),
        (measured(errors=(3e-4,) * 6), Outcome.WORSE),
        (measured(errors=(1e-8,) * 6), Outcome.IMPROVED),
        (measured(0.5, status=Status.FAIL_ACCURACY), Outcome.WORSE),
        (measured(status=Status.INCONCLUSIVE), Outcome.WORSE),
        (case_record(status=Status.FAIL_NAN), Outcome.WORSE),
        (case_record(status=Status.PASS), Outcome.WORSE),
        (case_record(status=Status.ERROR_CRASH), Outcome.UNJUDGED),
    ],
)
def test_a_change_either_way_is_seen_beyond_rounding(record, outcome):
    assert compare(record, ROW).outcome is outcome


@pytest.mark.parametrize(
    ("record", "outcome"),
    [
        (measured(4.0, status=Status.FAIL_ACCURACY), Outcome.KNOWN),
        (measured(9.0, status=Status.FAIL_ACCURACY), Outcome.WORSE),
        (measured(4.0, status=Status.FAIL_NAN), Outcome.WORSE),
        (measured(1.0), Outcome.IMPROVED),
        (case_record(status=Status.ERROR_TIMEOUT), Outcome.UNJUDGED),
    ],
)
def test_a_known_failure_is_exact(record, outcome):
    row = ExpectedRow(status=Status.FAIL_ACCURACY, budget_ratio=4.0, **LINK)
    found = compare(record, row)
    assert found.outcome is outcome
    if outcome is Outcome.KNOWN:
        assert "kernel X" in found.sentence and "https://tracker/1" in found.sentence


def test_known_trouble_of_the_infrastructure_can_be_recorded_by_hand():
    row = ExpectedRow(status=Status.ERROR_CRASH, **LINK)
    assert compare(case_record(status=Status.ERROR_CRASH), row).outcome is Outcome.KNOWN
    assert compare(case_record(status=Status.ERROR_OOM), row).outcome is Outcome.UNJUDGED
    assert compare(measured(), row).outcome is Outcome.IMPROVED


def test_the_sentence_names_the_numbers_the_place_and_the_command():
    worst = OperatorRow(
        index=7, operator="aten::silu.default", module="blocks.1.act", shapes=(), dtype="float16",
        memory_format="contiguous", ratio=80.0,
    )  # fmt: skip
    record = measured(
        87.31,
        status=Status.FAIL_ACCURACY,
        top1=4,
        reason="Output is wrong.",
        operators=OperatorCheck(1.0, 9, 9, 1, (worst,)),
    )
    sentence = compare(record, ROW, command="pytest --device npu").sentence
    assert record.case_id in sentence
    assert "status pass -> fail_accuracy" in sentence
    assert "budget ratio 1 -> 87.3" in sentence
    assert "Top-1 6/6 -> 4/6" in sentence
    assert "Output is wrong. Culprit: aten::silu.default in blocks.1.act (operator 7)." in sentence
    assert sentence.endswith(
        f"pytest --device npu -k 'test_accuracy[{record.case_id}]' --update-expected "
        "--expected-reason 'WHY' --expected-link 'ADDRESS'"
    )


def test_an_unchanged_number_is_not_in_the_sentence():
    sentence = compare(measured(5.0, limit=EXACT_LIMIT), ROW).sentence
    assert "Top-1" not in sentence and "error rate" not in sentence


def test_a_row_may_leave_numbers_out_and_widen_its_tolerance():
    row = ExpectedRow(status=Status.PASS, budget_ratio=1.0, tolerance=4.0, reason="noisy kernel")
    assert compare(measured(3.9, top1=2), row).outcome is Outcome.SAME
    assert compare(measured(4.1), row).outcome is Outcome.WORSE


def test_an_error_rate_of_one_image_is_a_single_sample():
    even = error_rate_tolerance(measured(errors=(1e-6,) * 6).gate)
    one = error_rate_tolerance(measured(errors=(1e-4, *(1e-9,) * 5)).gate)
    assert 20 < even < 100  # the 99.99 % point of F(6, 6)
    assert one > 1e6  # that of F(1, 1)


def test_error_rates_below_the_rounding_of_the_cosine_are_equal():
    row = ROW.model_copy(update={"error_rate_percent": 0.0})
    assert compare(measured(errors=(9e-13,) * 6), row).outcome is Outcome.SAME


def expected(record, row, *, update=None, only=None):
    rows = {} if row is None else {record.case_id: row}
    found = Expected(rows, only, "pytest", update).expectation(record)
    return found


def test_an_update_writes_a_better_or_a_new_row_without_a_reason():
    for row in (None, ExpectedRow(status=Status.FAIL_NAN, **LINK)):
        found = expected(measured(1.234567), row, update=Update())
        assert found.outcome is Outcome.UPDATED
        assert found.row.status is Status.PASS and found.row.budget_ratio == 1.23
        assert found.row.reason == found.row.loosened == ""


def test_an_update_for_the_worse_needs_a_reason_and_counts_as_loosened():
    refused = expected(measured(2.9), ROW, update=Update())
    assert refused.outcome is Outcome.WORSE
    assert refused.sentence.startswith("Not written: a row for the worse needs --expected-reason")
    found = expected(measured(2.9), ROW, update=Update("new tiling"))
    assert found.outcome is Outcome.UPDATED
    assert (found.row.loosened, found.row.reason) == ("budget ratio 1 -> 2.9", "new tiling")
    again = expected(measured(9.9, limit=EXACT_LIMIT), found.row, update=Update("newer"))
    assert again.row.loosened == "budget ratio 1 -> 2.9; budget ratio 2.9 -> 9.9"
    assert expected(measured(1.0), again.row, update=Update()).row.loosened == ""


def test_an_update_to_a_failure_needs_a_link_as_well():
    record = measured(9.0, status=Status.FAIL_ACCURACY)
    assert "--expected-link" in expected(record, ROW, update=Update("why")).sentence
    found = expected(record, ROW, update=Update("why", "https://tracker/2"))
    assert found.outcome is Outcome.UPDATED
    assert found.row.status is Status.FAIL_ACCURACY
    less = measured(4.0, status=Status.FAIL_ACCURACY)
    assert expected(less, found.row, update=Update()).row.link == "https://tracker/2"


def test_an_update_leaves_what_is_as_expected_and_what_was_not_judged():
    assert expected(measured(1.1), ROW, update=Update()).outcome is Outcome.SAME
    for row in (None, ROW):
        crashed = expected(case_record(status=Status.ERROR_CRASH), row, update=Update("w", "l"))
        assert crashed.outcome is Outcome.UNJUDGED


def test_only_the_cases_asked_for_are_compared_and_not_their_namesakes():
    record = measured()
    assert expected(record, ROW, only={}) is None
    assert expected(record, ROW, only={record.case_id: record.case}).outcome is Outcome.SAME
    other = dataclasses.replace(record.case, tier="full")
    assert expected(record, ROW, only={record.case_id: other}) is not None
    model = dataclasses.replace(record.case.model, kind="directory", ref="/x/m")
    namesake = dataclasses.replace(record.case, model=model)
    assert namesake.id == record.case_id
    assert expected(record, ROW, only={record.case_id: namesake}) is None


METHOD = CannMethod(True, "variance in one pass", "ops-nn", "https://example.org/ops-nn", 0.2, 0.3)
OTHER = dataclasses.replace(METHOD, agrees=False)


def with_culprits(*methods, worst=9.0, **changes):
    """A failed case whose localisation has a culprit for each method."""
    rows = [made.row(number, ratio=5.0, method=method) for number, method in enumerate(methods)]
    record = measured(worst, status=Status.FAIL_ACCURACY)
    check = summarise(rows, 1.0)
    place = Localization("float32", rows=tuple(rows))
    return record.model_copy(update={"localization": place, "operators": check, **changes})


def test_a_failure_as_cann_computes_it_is_written_with_its_reason():
    found = expected(with_culprits(METHOD, METHOD), ROW, update=Update())
    assert found.outcome is Outcome.UPDATED and found.row.as_cann
    assert found.row.reason == "aten::mm.default as CANN computes it: variance in one pass (ops-nn)"
    assert found.row.link == "https://example.org/ops-nn"
    told = compare(with_culprits(METHOD), ROW).sentence
    assert told.endswith("--update-expected") and "--expected-reason" not in told
    given = expected(with_culprits(METHOD), ROW, update=Update("seen on a card", "https://b"))
    assert (given.row.reason, given.row.link) == ("seen on a card", "https://b")


@pytest.mark.parametrize(
    "record",
    [
        with_culprits(METHOD, OTHER),
        with_culprits(METHOD, None),
        with_culprits(METHOD, operators=None, localization=None),
        with_culprits(METHOD, findings=[Finding(Status.FAIL_ACCURACY, Stage.FORWARD, "HF32")]),
        with_culprits(
            METHOD, localization=Localization(rows=(made.row(0, ratio=5.0, method=METHOD),),
                                              reproduced=False)),
    ],
    ids=["another culprit", "unexplained", "not looked for", "undeclared", "not reproduced"],
)  # fmt: skip
def test_another_failure_is_not_hidden_by_a_row_as_cann_computes_it(record):
    row = ExpectedRow(status=Status.FAIL_ACCURACY, budget_ratio=9.0, as_cann=True, **LINK)
    assert compare(with_culprits(METHOD), row).outcome is Outcome.KNOWN
    found = compare(record, row)
    assert found.outcome is Outcome.WORSE
    assert "culprits all as CANN computes it -> not all as CANN computes it" in found.sentence
    assert expected(record, row, update=Update()).outcome is Outcome.WORSE, "needs a reason"
