import pytest

from harness.records.expectation import Expectation, ExpectedRow, Outcome
from harness.report.html import fragments, glossary
from harness.report.tables import expected, localization, per_case, provenance
from harness.report.tables import trend as trends
from harness.report.tables import two_runs as compared
from harness.system.status import Status
from harness.upgrade import compare, history
from tests.makers.report import full_case
from tests.makers.two_runs import ran, run, sides


def every_table(tmp_path):
    """All tables that a page can hold."""
    case = full_case("a", bad=True)
    row = ExpectedRow(status=Status.FAIL_NAN, reason="known", link="https://x/1")
    worse = full_case("b", expected=Expectation(outcome=Outcome.WORSE, sentence="s", row=row))
    for day, torch in ((1, "2.8"), (2, "2.13")):
        last = ran(day, sides(), torch=torch)
        history.append(tmp_path, last)
    yield from (*per_case.everything(case), localization.worst(case))
    yield per_case.overview([case])
    yield provenance.sides([case])
    yield from expected.all_tables([worse])
    yield from compared.tables(compare.compare(run(sides(), torch="1"), run(sides(), torch="2")))
    yield trends.trend(history.of_run(tmp_path, last))


def test_every_column_says_what_it_is_and_its_formula(tmp_path):
    found = list(every_table(tmp_path))
    assert len({table.title for table in found}) >= 18
    unknown = {
        (table.title, cell)
        for table in found
        for cell in table.header
        if not glossary.meaning(cell, table.title)
    }
    assert not unknown
    assert sum("title=" in cell for cell in fragments.headers(["<th>"] * 4)) == 5


@pytest.mark.parametrize(
    ("word", "title", "text"),
    [
        ("CUDA Top-1", "", "most probable class on the device"),
        ("CPU/CUDA speed-up", "", "Throughput of the device / throughput of the CPU"),
        ("Budget ratio", "", "rmse(device - x) / rmse(budget - x)"),
        ("device", "Throughput, new / old, with", "new / old, with its 95 %"),
        ("device", "Cases", "Name of the device"),
        ("torch 2.8", "Trend over versions", "newest run with these versions"),
    ],
)
def test_a_word_is_explained_where_it_stands(word, title, text):
    assert text in glossary.meaning(word, title)


def test_what_is_no_column_has_no_meaning():
    assert glossary.meaning("torch 2.8", "Cases") == ""
    assert glossary.meaning("efficientnet_b0") == ""
