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
    rows = report.operators(engine_study()).rows
    assert [row[2:6] for row in rows] == [
        ("all", "5", "1", "inf"),
        ("aten::add.Tensor", "2", "0", "none"),
        ("aten::erf.default", "3", "1", "inf"),
    ]


def test_the_page_names_culprits_what_was_skipped_and_what_was_not_measured():
    page = report.render(engine_study())
    assert "aten::erf.default in act (7)" in page
    assert "no kernel" in page
    assert "- refused" in page
    assert "EMULATED" not in page
