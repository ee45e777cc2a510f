from harness.report import text
from harness.report.tables.cells import Table


def test_text_tables_line_up_also_with_wide_characters():
    rendered = text.render_table(Table("t", ("名前", "b"), (("x|y", "1"), ("長い名前", "2"))))
    lines = rendered.splitlines()[1:]
    assert lines[0] == "| 名前     | b |"
    assert lines[3] == "| 長い名前 | 2 |"
