from harness.report import text
from harness.report.html import page
from harness.report.tables import per_case
from harness.system.status import Stage, Status
from tests.makers.records import case_record, leg, published, published_case
from tests.makers.report import full_case


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
        "inconclusive: All alike. The port protocol alone would have passed it."
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


def test_the_vendors_standard_is_a_table_of_its_own_and_only_where_it_was_asked_for():
    table = per_case.standard(full_case("a"))
    assert table is not None and "no verdict" in table.title
    assert table.rows == (
        ("aten::mm.default", "1", "L1", "1 L1", "3", "1.4", "1.1", "7", "0.5", "1 of 1 calls",
         "leaves it out"),
        ("aten::roll.default", "1", "bits equal", "1 bits equal", "none", "none", "none", "0",
         "none", "1 of 1 calls", "not left out"),
    )  # fmt: skip
    assert per_case.standard(published_case()) is None
