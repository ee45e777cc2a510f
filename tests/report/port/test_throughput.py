import dataclasses
import itertools
import re

from harness.records.throughput import Row, Setting, Throughput, ThroughputPlan
from harness.report.port import content, texts
from harness.report.port import document as port_report
from tests.makers.port import run_of
from tests.makers.throughput import HOST, measured_case, timed


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
        assert (
            eight[6] == {"en": "threads: 4, channels_last", "zh": "4 线程，channels_last"}[language]
        )
        assert large[0] == "32" and reading in large[1] and reading in large[3]
        assert "error_oom: too large" in document.replace("\\", "")
        assert "A &lt;CPU&gt;" in document and "HOST BUSY" not in document
        assert "NOT REACHED" not in document


def test_what_is_weak_in_a_measurement_is_said_in_the_port_report():
    case = measured_case()
    host = dataclasses.replace(HOST, load=20.0)
    cut = (Setting(1, "contiguous", 0.1), Setting(2, "contiguous", None, "not tried", tried=False))
    noisy = timed(8, [0.1, 0.3, 0.2] * 10, setting=cut[0], search=cut, host=host)
    row = Row(8, dataclasses.replace(noisy, stable=False), case.throughput.rows[0].device)
    few = Row(6, timed(6, [0.1, 0.2], setting=Setting(1, "contiguous", 0.1)), None, "", "died")
    found = dataclasses.replace(case.throughput, rows=(row, few))
    words = {
        "en": ("HOST BUSY", "PRECISION NOT REACHED", "NOT STABLE", "SEARCH CUT SHORT", "died"),
        "zh": ("主机繁忙", "计时精度没有达到要求", "计时仍不稳定", "2 种设置只试了 1 种", "died"),
    }
    for language in ("en", "zh"):
        table, document = batches_in_port(case.model_copy(update={"throughput": found}), language)
        for loud in words[language]:
            assert loud in document
        assert not re.search(r" x|\d x", table[2][3]), "a busy host has no speed-up"
        assert "20" in table[3][5] and all(cell for cells in table for cell in cells)


def test_the_port_report_shows_no_speed_of_an_emulator_and_says_what_was_not_measured():
    (_, _, eight, large), _ = batches_in_port(measured_case(emulated=True))
    for cells in (eight, large):
        assert [("EMULATED" in cell) for cell in cells] == [0, 1, 0, 1, 1, 0, 0]
    table, document = batches_in_port(measured_case(throughput=None))
    assert not table and "`--throughput` was not given" in document
    problem = Throughput(
        ThroughputPlan((8,)), problem="Not measured: the case ended as error_crash."
    )
    table, document = batches_in_port(measured_case(throughput=problem))
    assert not table and "ended as error_crash" in document
