"""Throughput end to end: what must hold however fast the machine is."""

import json

import pytest

from harness.records.throughput import ThroughputPlan
from harness.report import junit, markdown, spreadsheet, text
from harness.report.html import fragments, speed_plots
from harness.report.port import content
from harness.report.tables import throughput as report
from harness.report.text import render_case
from harness.system.status import Status
from tests.makers.port import run_of
from tests.makers.report import unpacked
from tests.makers.runs import run_harness
from tests.makers.throughput import check, csv_row, measured_case

CASE = """
[[case]]
architecture = "test_resnet"
num_classes = 50
numerics = ["strict"]
"""


QUICK = ("--throughput", "--throughput-batches=2,1", "--throughput-seconds=2")


@pytest.fixture(scope="module")
def emulated(tmp_path_factory, cache_dir):
    """One run on the emulated NPU, and its page."""
    folder = tmp_path_factory.mktemp("emulated")
    page = folder / "r.html"
    done = run_harness(
        folder,
        cache_dir,
        "--device",
        "npu-emulated",
        *QUICK,
        f"--html={page}",
        "--self-contained-html",
        cases=CASE,
    )
    return done, page.read_text(encoding="utf-8")


def test_the_emulated_npu_is_timed_and_labelled(emulated):
    done, _ = emulated
    assert done.code == 0, done.text
    (case,) = done.run.cases
    assert case.status is Status.PASS
    found = case.throughput
    assert [row.batch_size for row in found.rows] == [2, 1]
    assert found.plan == ThroughputPlan((2, 1), 2.0, 0.02) and "host" in found.clock
    for row in found.rows:
        assert not row.cpu_problem and not row.device_problem
        check(row.cpu, cpu=True)
        check(row.device, cpu=False)
    # More images need more memory on the device.
    assert found.rows[0].device.memory.device_peak > found.rows[1].device.memory.device_peak
    # The verdict was on disk before anything was timed, and both lines are one case.
    lines = (done.results / "results.jsonl").read_text().splitlines()
    of_cases = [line for line in map(json.loads, lines) if line["type"] == "case"]
    assert [line["throughput"] is None for line in of_cases] == [True, False]
    assert of_cases[0] | {"throughput": 0} == of_cases[1] | {"throughput": 0}
    assert done.run.run.settings["throughput"] == "batches 2,1, 2 s a side, precision 2 %"


def test_an_emulated_device_has_no_speed_anywhere(emulated):
    done, page = emulated
    (case,) = done.run.cases
    latency, speed_up, *_ = report.tables(case)
    device = [row for row in latency.rows if row[0].startswith("NPU")]
    assert [row[0] for row in device] == ["NPU EMULATED"] * 2
    assert all(row[2:4] == (report.NOT_SHOWN,) * 2 for row in device)
    assert all(row[1:3] == (report.NOT_SHOWN,) * 2 for row in speed_up.rows)
    assert case.fair_speed_up is None and "fair_speed_up" not in dict(junit.properties(case))
    assert dict(zip(spreadsheet.COLUMNS, csv_row(done.run), strict=True))["fair_speed_up"] == (
        "EMULATED"
    )
    for rendered in (done.text, *unpacked(page).values(), markdown.render_run([case])):
        assert "not shown: EMULATED" in rendered


def test_every_view_has_the_same_tables(emulated):
    done, page = emulated
    (case,) = done.run.cases
    (details,) = unpacked(page).values()
    made = [*report.tables(case), report.memory(case)]
    assert len(made) == 6
    for table in made:
        assert text.render_table(table, text.NARROWEST) in done.text
        assert str(fragments.render_table(table)) in fragments.render_case(case)
        assert table.title in details
        assert markdown.render_table(table) in markdown.render_run([case])
    drawn = "Throughput and latency by batch size of"
    assert f'aria-label="{drawn}' in fragments.render_case(case) and drawn in details


def test_memory_is_recorded_without_throughput_too(harness_run):
    done = harness_run("--device", "cpu", cases=CASE)
    (case,) = done.run.cases
    assert done.code == 0 and case.throughput is None
    for side in (case.reference, case.candidate):
        assert side.memory.host_peak >= side.memory.host_before > 0
        assert side.memory.device_peak is None
    assert "throughput" not in done.run.run.settings
    assert "Peak memory" in fragments.render_case(case) and report.tables(case) == []
    assert "Throughput" not in done.text


def test_what_goes_wrong_costs_its_row_and_not_the_verdict(harness_run, copy_of):
    bad = copy_of("bad")
    (bad / "config.json").write_text("{")
    done = harness_run(
        "--device", "cpu", "--throughput", "--throughput-seconds=1",
        "--throughput-batches=1000000000,1",
        cases=f'{CASE}\n[[case]]\ndirectory = "{bad}"\nnumerics = ["strict"]\n',
    )  # fmt: skip
    good, broken = done.cases["test_resnet"], done.cases["bad"]
    assert good.status is Status.PASS and broken.status is Status.FAIL_LOAD
    large, small = good.throughput.rows
    for problem in (large.cpu_problem, large.device_problem):
        assert problem.startswith("error_oom: Batch 1000000000 does not fit")
        assert problem in render_case(good)
    assert "error_oom" in done.text
    check(small.cpu, cpu=True)
    check(small.device, cpu=True)  # a CPU as device is measured as fairly
    assert small.speed_up is None or small.speed_up.low <= small.speed_up.high
    assert broken.throughput.rows == ()
    assert broken.throughput.problem == "Not measured: the case ended as fail_load."
    assert broken.throughput.problem in done.text
    assert done.code == 1  # for the broken model alone


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--throughput", "--throughput-batches=1,0"], "at least 1"),
        (["--throughput", "--throughput-batches=one"], "at least 1"),
        (["--throughput", "--throughput-batches="], "at least 1"),
        (["--throughput", "--throughput-seconds=-1"], "positive"),
        (["--throughput", "--throughput-precision=0"], "percentage"),
        (["--throughput-batches=1"], "--throughput-batches belongs to --throughput"),
        (["--throughput", "-n", "2"], "leave -n and --ray out"),
    ],
)
def test_bad_options_are_exit_4_with_one_sentence(harness_run, options, word):
    done = harness_run("--device", "cpu", *options, cases=CASE)
    assert done.code == 4, done.text
    assert word in done.text
    assert not done.results.exists()


def test_a_port_publishes_it_without_single_times_and_never_from_the_emulator():
    found = content.performance_document(content.choose(run_of(measured_case()), None))
    assert "throughput" not in found["missing"]
    cpu = found["throughput"]["rows"][0]["cpu"]
    assert cpu["wall"]["repeats"] == 120 and "seconds" not in cpu
    assert cpu["setting"]["threads"] == 4 and len(cpu["search"]) == 2
    without = content.performance_document(
        content.choose(run_of(measured_case(throughput=None)), None)
    )
    assert without["throughput"] is None and "--throughput" in without["missing"]["throughput"]
    emulated = run_of(measured_case(emulated=True), device="npu-emulated:0")
    hidden = content.performance_document(content.choose(emulated, None))
    assert hidden["throughput"] is None and "EMULATED" in hidden["missing"]["throughput"]


def test_the_plot_hides_the_speed_of_an_emulated_device():
    real = str(speed_plots.of_case(measured_case()))
    case = measured_case(emulated=True)
    emulated = str(speed_plots.of_case(case))
    assert real.count(">NPU<") == 1 and "NPU, p99" in real
    assert ">NPU EMULATED<" not in emulated and "NPU EMULATED, p99" in emulated
    assert "images/s" in emulated and "latency [ms]" in emulated
