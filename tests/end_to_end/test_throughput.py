"""Throughput end to end: what must hold however fast the machine is."""

import dataclasses
import itertools
import json

import pytest

from harness.cases.case import Case, InputSource, ModelSource
from harness.cases.models.model_files import ModelFiles
from harness.devices.spec import DeviceSpec
from harness.execution import batch_timing, throughput
from harness.execution.batch_timing import MeasureRequest
from harness.execution.worker import DeviceWorker
from harness.records import results_file
from harness.records.leg import MemoryUse
from harness.records.throughput import Plan, Row, Setting, Throughput
from harness.report import junit, markdown, spreadsheet, text
from harness.report.html import fragments, glossary, plots
from harness.report.port import content, texts
from harness.report.port import document as port_report
from harness.report.tables import throughput as report
from harness.system.status import CaseProblem, Stage, Status
from tests.makers.port import run_of
from tests.makers.report import unpacked
from tests.makers.runs import run_harness
from tests.makers.throughput import HOST, check, csv_row, measured_case, timed

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
    assert found.plan == Plan((2, 1), 2.0, 0.02) and "host" in found.clock
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
        assert text.render_table(table) in done.text
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
        assert problem in done.text
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


@pytest.fixture(scope="module")
def workers():
    made = [DeviceWorker(DeviceSpec("cpu")), DeviceWorker(DeviceSpec("npu-emulated"))]
    yield made
    for worker in made:
        worker.stop()


@pytest.mark.parametrize(
    ("fault", "first", "second"),
    [
        ({"kind": "abort"}, "error_crash", "not measured: batch 1 ended as error_crash"),
        ({"kind": "hang"}, "error_timeout", "not measured: batch 1 ended as error_timeout"),
        ({"kind": "out_of_memory"}, "error_oom", "error_oom"),  # another batch might fit
    ],
)
def test_faults_of_the_device_are_named_in_their_row(leg_request, workers, fault, first, second):
    # The fifth forward at the latest, whatever the speed: first call, warm-up, three timed ones.
    plan = json.dumps({"faults": [{"operator": "Addmm", "first": 5, **fault}]})
    found = throughput.measure(
        Plan((1, 2), 1.0), dataclasses.replace(leg_request, fault_plan=plan), *workers, timeout=30
    )
    assert [row.device for row in found.rows] == [None, None]
    assert found.rows[0].device_problem.startswith(first)
    assert found.rows[1].device_problem.startswith(second)
    for row in found.rows:
        check(row.cpu, cpu=True)


@pytest.mark.parametrize(("own", "expected"), [(None, (3,)), ((2,), (2,)), ((), None)])
def test_a_case_may_have_batch_sizes_of_its_own(cache_dir, tmp_path, own, expected):
    from harness.execution.settings import RunSettings
    from harness.execution.sides import Sides
    from harness.runs.runner import CaseRunner

    case = Case(
        ModelSource("architecture", "test_resnet", num_classes=50),
        InputSource("synthetic", count=2),
        numerics="strict",
        throughput=own,
    )
    plan = Plan((3,), 0.1)
    settings = RunSettings(DeviceSpec("cpu"), cache_dir, throughput=plan)
    runner = CaseRunner(Sides(settings), tmp_path / "r.jsonl")
    try:
        record = runner.run(case)
    finally:
        runner.close()
    assert results_file.read(tmp_path / "r.jsonl").cases == [record]
    found = record.throughput
    assert (found and tuple(row.batch_size for row in found.rows)) == expected
    if found is not None:
        assert not found.problem
        assert all(row.cpu is not None and row.device is not None for row in found.rows)


def test_a_budget_is_shared_and_what_was_not_tried_is_said(leg_request):
    from harness.devices.cpu import CpuDevice

    found = batch_timing.run(
        CpuDevice(), MeasureRequest(leg_request, 3, 1e-6, 0.02), lambda stage: None
    )
    check(found, cpu=True)
    assert found.wall.repeats == 3 and not found.stable
    assert [setting.seconds is None for setting in found.search[:2]] == [False, True]
    assert all("not tried" in setting.note for setting in found.search[1:])


def test_a_layout_that_a_model_refuses_is_said(leg_request, monkeypatch):
    import torch

    from harness.devices.cpu import CpuDevice

    class Stubborn(torch.nn.Module):
        def forward(self, images):
            return images.view(len(images), -1).sum(1)

    real = ModelFiles.load
    monkeypatch.setattr(
        ModelFiles,
        "load",
        lambda self: dataclasses.replace(real(self), model=Stubborn()),
    )
    found = batch_timing.run(
        CpuDevice(), MeasureRequest(leg_request, 2, 1.0, 0.02), lambda stage: None
    )
    assert found.setting.layout == "contiguous"
    failed = [setting for setting in found.search if setting.layout == "channels_last"]
    assert failed and all(setting.note.startswith("failed: view size") for setting in failed)
    assert torch.backends.mkldnn.enabled


def test_a_model_that_runs_in_no_setting_has_a_status(leg_request, monkeypatch):
    import torch

    from harness.devices.cpu import CpuDevice

    class Broken(torch.nn.Module):
        def forward(self, images):
            raise RuntimeError("no such thing")

    real = ModelFiles.load
    monkeypatch.setattr(
        ModelFiles, "load", lambda self: dataclasses.replace(real(self), model=Broken())
    )
    stages = []
    with pytest.raises(CaseProblem, match="no such thing") as caught:
        batch_timing.run(CpuDevice(), MeasureRequest(leg_request, 2, 1.0, 0.02), stages.append)
    assert caught.value.status is Status.FAIL_REFERENCE
    assert stages == [Stage.LOAD, Stage.TRANSFER, Stage.FORWARD]


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
    assert report.tables(case)[1].rows[0][1] == "19.9 x, PRECISION NOT REACHED"
    for line in report.lines(case):
        assert line in fragments.render_case(case).replace("&#39;", "'")


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


def batches_in_port(case, language: str = "en") -> tuple[list[list[str]], str]:
    """The cells of the report's table of batch sizes, and the whole document."""
    document = port_report.render(content.choose(run_of(case), None), language)
    lines = document.splitlines()
    title = texts.every()["batches.title"][language]
    start = next((i for i, line in enumerate(lines) if title in line), None)
    if start is None:
        return [], document
    table = itertools.takewhile(lambda line: line.startswith("|"), lines[start + 2 :])
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table], document


def test_the_port_report_has_every_batch_size_in_both_languages():
    case = measured_case()
    fair = case.fair_speed_up
    for language, reading in (("en", "see below"), ("zh", "见下文")):
        (_, _, eight, large), document = batches_in_port(case, language)
        assert eight[0] == "8" and eight[1].startswith("796 img/s") and "79.6" in eight[2]
        assert eight[3].startswith("10 x") and f"{fair.low:.4g}" in eight[3]
        assert eight[4].startswith("10.05 / 10.1 / 10.1 / 10.1")
        assert eight[6] == "4 threads, channels_last"
        assert large[0] == "32" and reading in large[1] and reading in large[3]
        assert "error_oom: too large" in document.replace("\\", "")
        assert "A &lt;CPU&gt;" in document and "HOST BUSY" not in document
        assert "NOT REACHED" not in document


def test_what_is_weak_in_a_measurement_is_said_in_the_port_report():
    case = measured_case()
    host = dataclasses.replace(HOST, load=20.0)
    noisy = timed(8, [0.1, 0.3, 0.2] * 10, setting=Setting(1, "contiguous", 0.1), host=host)
    row = Row(8, dataclasses.replace(noisy, stable=False), case.throughput.rows[0].device)
    few = Row(6, timed(6, [0.1, 0.2], setting=Setting(1, "contiguous", 0.1)), None, "", "died")
    found = dataclasses.replace(case.throughput, rows=(row, few))
    for language in ("en", "zh"):
        table, document = batches_in_port(case.model_copy(update={"throughput": found}), language)
        for loud in ("HOST BUSY", "PRECISION NOT REACHED", "NOT STABLE", "died"):
            assert loud in document
        assert "20" in table[3][5] and all(cell for cells in table for cell in cells)


def test_the_port_report_shows_no_speed_of_an_emulator_and_says_what_was_not_measured():
    (_, _, eight, large), _ = batches_in_port(measured_case(emulated=True))
    for cells in (eight, large):
        assert [("EMULATED" in cell) for cell in cells] == [0, 1, 0, 1, 1, 0, 0]
    table, document = batches_in_port(measured_case(throughput=None))
    assert not table and "`--throughput` was not given" in document
    problem = Throughput(Plan((8,)), problem="Not measured: the case ended as error_crash.")
    table, document = batches_in_port(measured_case(throughput=problem))
    assert not table and "ended as error_crash" in document


def test_a_measurement_survives_the_round_trip(tmp_path):
    record = measured_case()
    results_file.append(tmp_path / "r.jsonl", record)
    (read,) = results_file.read(tmp_path / "r.jsonl").cases
    assert read == record and read.throughput.rows[0].speed_up == record.throughput.rows[0].speed_up


def test_the_plot_hides_the_speed_of_an_emulated_device():
    real = str(plots.plot(measured_case()))
    case = measured_case(emulated=True)
    emulated = str(plots.plot(case))
    assert real.count(">NPU<") == 1 and "NPU, p99" in real
    assert ">NPU EMULATED<" not in emulated and "NPU EMULATED, p99" in emulated
    assert "images/s" in emulated and "latency [ms]" in emulated
