import html

from harness.records import results_file
from harness.report import text
from harness.report.html import fragments
from harness.report.tables import detection
from tests.makers.detection import counted
from tests.makers.records import case_record


def test_counting():
    found = counted()
    assert found.effective == 4  # what changed nothing is no fault
    assert found.missed == 1
    assert found.missed_by_gate == 2
    assert found.inconclusive == 1  # neither caught nor accepted


def test_the_record_keeps_it_and_the_reports_show_both_columns(tmp_path):
    case = case_record(sensitivity=counted(), emulated=True)
    path = tmp_path / "results.jsonl"
    results_file.append(path, case)
    (read,) = results_file.read(path).cases
    assert read.sensitivity == counted()
    table = detection.table(read)
    assert "EMULATED" in table.title
    assert ("protocol's gate", "this harness") == table.header[2:4]
    assert table.rows[0][2:] == ("PASSED", "fail_accuracy", "50")
    assert table.rows[1][2:4] == ("PASSED", "PASSED")
    assert table.rows[2][2:4] == ("no effect", "no effect")
    assert table.rows[4][2:] == ("failed", "fail_nan", "not a number")
    for page in (text.render_case(read), html.unescape(fragments.render_case(read))):
        assert "the protocol's gate passed 2, this harness 1" in page
        assert "3e-05" in page
