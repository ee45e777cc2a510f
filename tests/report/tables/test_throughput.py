import dataclasses

import pytest

from harness.records.leg import MemoryUse
from harness.records.throughput import Row, Setting
from harness.report import junit, spreadsheet, text
from harness.report.html import fragments, glossary
from harness.report.tables import throughput as report
from tests.makers.port import run_of
from tests.makers.throughput import HOST, csv_row, measured_case, timed


def test_the_speed_up_has_its_interval_and_the_setting_of_the_cpu():
    case = measured_case()
    assert report.lines(case) == ["Throughput: NPU at batch 32 has no times: error_oom: too large"]
    latency, speed_up, how, search, host = report.tables(case)
    assert speed_up.header[1] == "CPU/NPU speed-up"
    batch, value, interval, setting = speed_up.rows[0]
    assert (batch, value, setting) == ("8", "10 x", "4 threads, channels_last")
    low, high = map(float, interval.split(" to "))
    assert low < 10 < high
    assert speed_up.rows[1][1:3] == ("not measured", "not measured")
    cells = dict(zip(latency.header, latency.rows[1], strict=True))
    assert cells["side"] == "NPU" and float(cells["images/s"]) == pytest.approx(796, abs=0.1)
    assert float(cells["p50 [ms]"]) == 10.05 and "NOT" not in cells["precision"]
    cells = dict(zip(how.header, how.rows[1], strict=True))
    assert (cells["copy in [ms]"], cells["copy out [ms]"]) == ("2", "1")
    assert cells["peak device memory [MiB]"] == "3.0"
    assert cells["peak host memory [MiB]"] == "2.0, since the process began"
    assert [row[-1] for row in search.rows] == ["chosen", "no"] * 2
    assert dict(host.rows)["model"] == "A <CPU> (x86_64)"
    fair = case.fair_speed_up
    assert fair.value == pytest.approx(10) and fair.low < 10 < fair.high
    assert dict(junit.properties(case))["fair_speed_up_low"] == repr(fair.low)
    cells = dict(zip(spreadsheet.COLUMNS, csv_row(run_of(case)), strict=True))
    assert float(cells["fair_speed_up_high"]) == fair.high


def test_every_column_with_a_number_says_what_it_is():
    case = measured_case()
    plain = {"side", "batch", "threads", "layout", "chosen"}
    used = MemoryUse(1, 1, False)
    sides = {
        side: getattr(case, side).model_copy(update={"memory": used})
        for side in ("reference", "candidate")
    }
    shown = [*report.tables(case), report.memory(case.model_copy(update=sides))]
    unknown = {
        cell for table in shown for cell in table.header if not glossary.meaning(cell, table.title)
    }
    assert unknown == plain


def test_a_precision_that_was_not_reached_is_loud():
    case = measured_case()
    noisy = timed(8, [0.1, 0.3, 0.2] * 10, setting=Setting(1, "contiguous", 0.1), host=HOST)
    fast = case.throughput.rows[0].device
    loud = dataclasses.replace(noisy, stable=False, host=dataclasses.replace(HOST, load=20.0))
    found = dataclasses.replace(case.throughput, rows=(Row(8, loud, fast),))
    case = case.model_copy(update={"throughput": found})
    said = "\n".join(report.lines(case))
    assert (
        "PRECISION NOT REACHED, 2 % was asked for: CPU at batch 8 (50 % after 30 repeats)" in said
    )
    assert "NOT STABLE" in said and "CPU at batch 8 (10 calls)" in said and "HOST BUSY" in said
    assert "50 % NOT REACHED (2 %)" in text.render_case(case)
    assert report.tables(case)[1].rows[0][1] == "none: HOST BUSY"
    assert case.fair_speed_up is None
    idle = dataclasses.replace(noisy, stable=False)
    rows = (Row(8, idle, fast),)
    quiet = case.model_copy(update={"throughput": dataclasses.replace(found, rows=rows)})
    assert report.tables(quiet)[1].rows[0][1] == "19.9 x, PRECISION NOT REACHED"
    for line in report.lines(case):
        assert line in fragments.render_case(case).replace("&#39;", "'")
