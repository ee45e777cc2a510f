"""The study: its counting and its Markdown."""

import dataclasses

from harness.detection.study_results import FaultResult
from harness.report import study as report
from harness.system.status import Status
from tests.makers.detection import honest, row, small_study


def test_totals_by_setting_and_format():
    rows = report.totals(small_study()).rows
    assert rows[0] == ("strict", "C", "2", "2", "2", "1", "0", "0", "50.0", "50.0")
    assert rows[-1] == ("strict", "all", "4", "3", "2", "1", "0", "0", "33.3", "33.3")


def test_false_alarms_are_counted():
    rows = report.honest_totals(small_study()).rows
    assert [r[3] for r in rows] == ["0", "1"]


def test_the_markdown_names_what_was_missed_and_is_labelled():
    page = report.render(small_study())
    assert "EMULATED" in page
    (missed,) = report.missed(small_study()).rows
    assert missed == ("faint", "C early 2")
    assert "no effect" in page


def test_histogram_keeps_every_value_in_its_half_decade():
    lines = report.histogram([1.0, 1.5, None], [0.01, 4.0, 1e9, float("inf")])
    shown = {line[:18].strip(): line[18:].split() for line in lines}
    assert shown["1 .. 3.16"][-1] == "2"
    assert shown["3.16 .. 10"][-1] == shown["< 0.1"][-1] == shown[">= 1e+06"][-1] == "1"
    assert [part for part in shown["not a number"] if part.isdigit()] == ["1", "1"]


def test_a_fault_missed_in_a_reduced_format_is_looked_up_in_strict():
    base = small_study()
    faint = FaultResult("C", "float16", "m", row(status=Status.PASS, ratio=2.0))
    both = dataclasses.replace(
        base, honest=(*base.honest, honest(format="float16")), faults=(*base.faults, faint)
    )
    (found,) = [r for r in report.totals(both).rows if r[:2] == ("float16", "C")]
    assert found[5:7] == ("1", "1")
