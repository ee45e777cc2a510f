from harness.report import text
from harness.report.html import fragments
from harness.report.tables import trend
from harness.system.status import Status
from harness.upgrade import history
from tests.makers.records import case_record
from tests.makers.two_runs import ran, sides


def test_the_trend_has_a_column_for_each_set_of_versions(tmp_path):
    for day, torch, ratio in ((1, "2.8", 1.0), (2, "2.13", 1.5), (3, "2.13", 1.4)):
        last = ran(day, sides(ratio), torch=torch, timm="1")
        history.append(tmp_path, last)
    bad = case_record("b", Status.FAIL_NAN)
    history.append(tmp_path, last := ran(4, sides(9.0), bad, torch="2.14", timm="1"))
    table = trend.trend(history.of_run(tmp_path, last))
    assert table.header == ("case", "torch 2.8", "torch 2.13", "torch 2.14")
    first, second = table.rows
    assert first[1:] == (
        "pass, 1, 0.0003 %, 10.0 x",
        "pass, 1.4, 0.0003 %, 10.0 x (2 runs)",
        "pass, 9, 0.0003 %, 10.0 x",
    )
    assert second[1:] == ("not run", "not run", "fail_nan")
    assert "torch 2.13" in text.render_table(table) and "torch 2.13" in fragments.render_table(
        table
    )


def test_a_single_run_has_no_trend(tmp_path):
    history.append(tmp_path, only := ran(1, sides()))
    assert trend.trend(history.of_run(tmp_path, only)) is None


def test_an_emulated_trend_says_so(tmp_path):
    for day in (1, 2):
        last = ran(day, sides(kind="npu-emulated"), kind="npu-emulated")
        history.append(tmp_path, last)
    assert "[EMULATED]" in trend.trend(history.of_run(tmp_path, last)).rows[0][0]
