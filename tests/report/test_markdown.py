import re

import pytest

from harness.cases.case import ModelSource
from harness.report import markdown
from harness.report.markdown import escaped
from harness.report.tables import two_runs as report
from harness.system.status import Finding, Stage, Status
from tests.makers.port import broken, case_of
from tests.makers.two_runs import sides


def test_markdown_escapes_what_comes_from_outside():
    table = report.Table("t", ("a",), (("x|<b>`y`\nz",),))
    assert "x\\|&lt;b&gt;\\`y\\` z" in markdown.render_table(table)


def test_the_summary_of_a_run_in_markdown():
    page = markdown.render_run([sides(9.0, status=Status.FAIL_ACCURACY, reason="Too far.")], ["b"])
    assert "2 cases: 1 fail_accuracy, 1 missing" in page
    assert "`b`" in page and "fail_accuracy: Too far." in page
    assert "\n\n#### Cases\n\n| case |" in page


def test_the_job_summary_of_many_failures_fits_into_its_mebibyte():
    cases = [
        broken(
            Status.FAIL_NAN,
            "<b>|" * 5000,
            findings=[Finding(Status.FAIL_NAN, Stage.COMPARE, "y" * 20_000)] * 3,
            model=source,
        )
        for source in (ModelSource("architecture", f"m{i}") for i in range(500))
    ]
    text = markdown.render_run(cases)
    assert len(text.encode()) < 1 << 20
    assert "480 more cases that did not pass" in text
    assert all(case.case_id in text for case in cases)
    assert "<b>" not in text


def test_the_job_summary_of_no_case_and_of_one():
    assert "No case was run." in markdown.render_run([])
    one = markdown.render_run([case_of(kind="npu-emulated")])
    assert "EMULATED" in one and "1 case: 1 pass" in one
    for line in one.splitlines():
        if line.startswith("|"):
            assert len(re.split(r"(?<!\\)\|", line)) == 10


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", r"a\|b"),
        (r"a\|b", r"a\\\|b"),
        ("efficientnet_b0", "efficientnet_b0"),
        ("_x_ *y*", r"\_x\_ \*y\*"),
        ("# no heading", r"\# no heading"),
        ("1. no list", r"1\. no list"),
        ("- no list", r"\- no list"),
        ("0.0003 %", "0.0003 %"),
        ("-0.5", "-0.5"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("two\nlines\ttab", "two lines tab"),
        ("\x07\u202e", "��"),
    ],
)
def test_escaping(text, shown):
    assert escaped(text) == shown
    assert escaped(escaped(text)) == shown
