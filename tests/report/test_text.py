import pytest
from rich.cells import cell_len

from harness.report import text
from harness.report.tables import per_case
from harness.report.tables.cells import Table
from tests.makers.report import crashed, full_case, renamed


def test_text_tables_line_up_also_with_wide_characters():
    rendered = text.render_table(Table("t", ("名前", "b"), (("x|y", "1"), ("長い名前", "2"))))
    lines = rendered.splitlines()[1:]
    assert lines[0] == "| 名前     | b |"
    assert lines[3] == "| 長い名前 | 2 |"


def test_tables_fit_a_terminal_and_lose_nothing():
    case = full_case("vit_base", bad=True, kind="npu-emulated")
    for table in per_case.everything(case):
        rendered = text.render_table(table, 80)
        assert max(map(cell_len, rendered.splitlines())) <= 80, rendered
        seen = "".join(rendered.split())
        words = [word for row in table.rows for cell in row for word in cell.split()]
        assert all(word in seen for word in words), rendered


@pytest.mark.parametrize(
    ("rows", "lines"),
    [
        ([["some longer words here", "1"]], ["| longer     |   |"]),
        ([["a" * 12, "b" * 12]], ["- x aaaaaaaaaaaa;"]),
    ],
)
def test_wide_cells_are_wrapped_and_long_words_become_paragraphs(rows, lines):
    rendered = text.render_table(Table("t", ("x", "y"), tuple(map(tuple, rows))), 18)
    assert lines[0] in rendered
    assert max(map(len, rendered.splitlines())) <= 18


def test_cases_that_passed_take_a_line_each():
    good, bad = full_case("good"), full_case("bad", bad=True)
    asked = renamed(good, "good-with-faults-planted")
    good = good.model_copy(update={"throughput": None, "sensitivity": None})
    cases = [renamed(good, f"good-{n}") for n in range(5)] + [bad, crashed("lost", "It died.")]
    rendered = text.render_run(cases, columns=80)
    assert rendered.count("mean cosine similarity") == 1 and "== bad-synthetic" in rendered
    lines = [line for line in rendered.splitlines() if line.startswith("pass")]
    assert len(lines) == 5 and lines[3].startswith("pass  good-3  ") and "6/6" in lines[3]
    alone = text.render_run([good], columns=80)
    assert alone.count("mean cosine similarity") == 1
    # What was asked for is shown: planted faults, and times.
    assert asked.sensitivity is not None or asked.throughput is not None
    both = text.render_run([good, asked], columns=80)
    assert both.count("mean cosine similarity") == 1 and "== good-with-faults-planted" in both
