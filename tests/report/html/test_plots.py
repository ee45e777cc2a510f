from __future__ import annotations

import math

from harness.judgement.localization import Localization
from harness.report.html import page, plots
from harness.upgrade import history
from tests.makers.localization import row
from tests.makers.records import case_record
from tests.makers.report import full_case, renamed
from tests.makers.two_runs import ran, sides


def test_the_plot_marks_the_culprit_and_takes_the_page_s_colour():
    rows = tuple(row(i, inherited_rmse=1e-6, inherited_budget_rmse=1e-6) for i in range(5))
    found = Localization("float32", 0, 2, (*rows, row(7, nonfinite=2, own_rmse=math.inf)))
    drawing = plots.error_over_depth(found, "a<b> & c")
    svg = drawing.svg
    assert svg.startswith('<svg role="img" aria-label="Error over depth of a&lt;b&gt; &amp; c')
    assert "layer7" in svg and "currentColor" in svg and "#010203" not in svg
    assert drawing == plots.error_over_depth(found, "a<b> & c"), "the same in every run"


def test_a_hundred_culprits_are_strokes_and_one_has_a_name():
    rows = tuple(row(i, own_rmse=1e-2, ratio=1e5) for i in range(100))
    svg = plots.error_over_depth(Localization("float32", 0, 2, rows), "a").svg
    assert "own error of 100 culprits" in svg and svg.count(">layer") + svg.count("> layer") == 1


def test_the_plots_say_what_they_show_and_are_the_same_every_time():
    case = full_case("m<o>del", bad=True, kind="npu-emulated")
    shown = plots.budgets([case])
    assert "1 beyond the limit - EMULATED" in shown.svg and shown == plots.budgets([case])
    both = plots.agreement(case)
    assert len(both) == 3
    for one in both:
        assert "m_o_del" in one.svg and "EMULATED" in one.svg and "#010203" not in one.svg
    assert plots.agreement(case, copy="other") != both
    assert plots.budgets([case_record()]) is None and plots.agreement(case_record()) == []


def test_the_plots_bear_what_is_no_number_and_names_in_any_script():
    case = full_case("名前 $x_1$")
    (row,) = case.budgets
    nan = float("nan")
    broken = case.model_copy(update={"budgets": [type(row)(**{
        **vars(row), "ratio": nan, "image_ratios": (nan, float("inf"), *row.image_ratios[2:])
    })]})  # fmt: skip
    assert "1 beyond the limit" in plots.budgets([broken]).svg
    assert len(plots.agreement(broken)) == 3
    renamed_case = renamed(case, "名前 $x_1$")
    assert "名前 $x_1$" in plots.budgets([renamed_case]).svg


def test_a_record_from_before_values_were_kept_has_its_other_plots():
    case = full_case("a")
    old = [type(out)(**{**vars(out), "sample": None}) for out in case.outputs]
    (shown,) = plots.agreement(case.model_copy(update={"outputs": old}))
    assert "budget ratio" in shown.svg


def test_the_trend_has_a_plot(tmp_path):
    for day, ratio in ((1, 1.0), (2, 1.5), (3, 20.0)):
        history.append(tmp_path, last := ran(day, sides(ratio), torch=str(day)))
    shown = page.render_trend(history.of_run(tmp_path, last))
    assert "Budget ratios of 1 cases over 3 runs" in shown and "2026-01-02" in shown
    assert page.render_trend(history.of_run(tmp_path, ran(9, sides()))[:1]) == ""
