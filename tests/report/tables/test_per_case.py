import datetime

import numpy as np
import pytest

from harness.judgement.metrics import Discrimination
from harness.judgement.verdict import judge
from harness.report import text
from harness.report.html import fragments, page
from harness.report.tables import cells, per_case, performance, provenance
from harness.report.tables.cells import Table
from harness.system.status import Stage, Status
from tests.makers.evidence import evidence
from tests.makers.records import case_record, leg, published, published_case


def test_the_documented_accuracy_table():
    assert per_case.accuracy(published_case()).rows == (
        ("mean cosine similarity", "0.999997"),
        ("MAE", "0.000002"),
        ("error rate", "0.0003 %"),
        ("Top-1 agreement", "100.0 % (6/6)"),
    )


def test_the_documented_per_image_table():
    table = per_case.per_image(published_case())
    assert table.header == ("image", "CPU Top-1", "NPU Top-1", "match", "cosine")
    assert table.rows[0] == ("0", "984", "984", "yes", "0.999997")
    assert len(table.rows) == 6


def test_the_documented_performance_table():
    rows = dict(performance.documented(published_case()).rows)
    assert rows["NPU throughput"] == "115.2 img/s"
    assert rows["CPU/NPU speed-up"] == "49.9 x"


def test_a_cpu_time_from_the_cache_says_when_and_where_it_was_measured():
    case = published_case()
    made = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.timezone.utc)
    timing = case.reference.timing.model_copy(update={"cached_since": made})
    cached = case.model_copy(
        update={"reference": case.reference.model_copy(update={"timing": timing})}
    )
    said = "measured when the reference was made (2026-01-02 03:04 UTC, Some <card>)"
    rows = dict(performance.documented(cached).rows)
    assert rows["CPU throughput"] == f"2.3 img/s, 2 threads, {said}"
    assert rows["CPU/NPU speed-up"] == "49.9 x, the CPU measured earlier"
    assert dict(provenance.table(cached).rows)["CPU answers"] == (
        "from the reference cache, made 2026-01-02 03:04 UTC"
    )
    fresh = dict(performance.documented(case).rows) | dict(provenance.table(case).rows)
    assert "measured" not in fresh["CPU throughput"]
    assert "CPU answers" not in fresh


def test_an_emulated_device_has_no_speed():
    case = case_record(reference=leg("cpu"), candidate=leg("npu-emulated"), emulated=True)
    table = performance.documented(case)
    assert "EMULATED" in table.title
    assert not any("img/s" in value for name, value in table.rows if name != "CPU throughput")


def test_a_small_error_is_not_shown_as_zero():
    assert cells.fixed(3.2e-9, 6) == "3.20e-09"
    assert cells.fixed(0.0, 6) == "0.000000"
    assert cells.cosine(1 - 3e-9) == "1.000000 (1 - 3.0e-09)"
    assert cells.cosine(1.0) == cells.cosine(1 - 2e-16) == "1.000000"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nonfinite_values_are_shown_as_such(value):
    assert cells.fixed(value, 4) == str(value)


def test_rows_must_fit_the_header():
    with pytest.raises(ValueError, match="does not fit"):
        Table("t", ("a", "b"), (("1",),))


def test_every_view_of_an_emulated_case_says_so():
    case = case_record(
        gate=published(), candidate=leg("npu-emulated"), reference=leg("cpu"), emulated=True
    )
    for table in per_case.documented(case):
        assert "EMULATED" in table.title
    assert "EMULATED" in per_case.conclusion(case)
    assert "EMULATED" in per_case.top_line([case])
    assert "EMULATED" in page.render_summary(None, [case])


def test_the_conclusion_follows_from_the_status():
    assert per_case.conclusion(published_case()).startswith("passed: error rate 0.0003 % is below")
    blind = published_case(status=Status.INCONCLUSIVE, reason="All alike.")
    assert per_case.conclusion(blind) == (
        "inconclusive: All alike. The documented gate alone would have passed it."
    )


def test_a_failed_case_without_numbers_says_not_measured():
    case = case_record(status=Status.FAIL_LOAD, stage=Stage.LOAD, reason="Key a is missing.")
    (row,) = per_case.overview([case]).rows
    assert row[1:6] == ("fail_load", *["not measured"] * 4)
    assert per_case.accuracy(case) is None
    assert "fail_load: Key a is missing." in text.render_run([case])


def test_top_line_counts_and_names_missing_cases():
    cases = [case_record("a"), case_record("b", Status.FAIL_NAN)]
    assert per_case.top_line(cases, ["c"]) == "3 cases: 1 fail_nan, 1 pass, 1 missing"
    assert per_case.top_line([]) == "No case was run."


def test_text_tables_line_up_also_with_wide_characters():
    rendered = text.render_table(Table("t", ("名前", "b"), (("x|y", "1"), ("長い名前", "2"))))
    lines = rendered.splitlines()[1:]
    assert lines[0] == "| 名前     | b |"
    assert lines[3] == "| 長い名前 | 2 |"


def test_html_escapes_everything_from_outside():
    evil = "<script>alert(1)</script>"
    logits = {evil: np.eye(3)}
    judged = judge(evidence(logits, logits, logits=evil, labels=[evil] * 3))
    case = case_record(
        evil,
        gate=judged.gate,
        outputs=list(judged.outputs),
        discrimination=Discrimination(3, 0.1, 3, 1.0, 1.0, 0.9),
        reference=leg("cpu"),
        candidate=leg("npu"),
        weights=evil,
        reason=evil,
        findings=[evil, evil],
        log_tail=evil,
        status=Status.FAIL_NAN,
    )
    shown = page.render_summary(None, [case], [evil]) + fragments.render_case(case)
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown


def test_of_many_missing_cases_the_first_are_named():
    assert cells.first(["a", "b"]) == "a, b"
    assert cells.first([str(n) for n in range(30)], shown=2) == "0, 1 and 28 more"
