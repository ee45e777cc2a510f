"""The Markdown of a study of engines."""

import dataclasses

from harness.report import engines as report
from harness.system.status import Status
from tests.makers.detection import engine_study


def test_totals_count_models_and_greatest_ratios():
    study = engine_study()
    other = dataclasses.replace(study.rows[0], model="b", status=Status.FAIL_NAN, ratio=3.0)
    (row,) = report.totals(dataclasses.replace(study, rows=(*study.rows, other))).rows
    assert row == ("OpenVINO 1", "strict", "2", "1", "0", "1", "2.25", "3", "2", "0.5", "10")


def test_operators_are_counted_by_kind_and_all_together():
    table = report.operators(engine_study())
    assert table.header == ("operator", "format", "compared", "culprits", "OpenVINO 1")
    assert [(row[0], *row[2:]) for row in table.rows] == [
        ("all", "5", "1", "inf / inf"),
        ("aten::add.Tensor", "2", "0", "none / none"),
        ("aten::erf.default", "3", "1", "inf / inf"),
    ]


def test_models_stand_with_the_engines_side_by_side():
    study = engine_study()
    other = dataclasses.replace(study.rows[0], engine="A", status=Status.FAIL_NAN, ratio=None)
    alone = dataclasses.replace(other, model="b")
    rows = report.each(dataclasses.replace(study, rows=(*study.rows, other, alone))).rows
    assert rows == (
        ("a", "strict", "fail_nan none 2 0.5", "pass 1.5 2 0.5"),
        ("b", "strict", "fail_nan none 2 0.5", "not measured"),
    )


def test_the_page_names_culprits_what_was_skipped_and_what_was_not_measured():
    page = report.render(engine_study())
    assert "aten::erf.default in act (7)" in page
    assert "no kernel" in page
    assert "- refused" in page
    assert "EMULATED" not in page
