import math

import numpy as np

from harness.judgement.metrics import Discrimination
from harness.judgement.verdict import judge
from harness.report.html import fragments, page
from harness.system.messages import say
from harness.system.status import Finding, Stage, Status
from tests.makers.evidence import evidence
from tests.makers.records import case_record, leg
from tests.makers.report import crashed


def test_html_escapes_everything_from_outside():
    evil = "<script>alert(1)</script>"
    logits = {evil: np.eye(3)}
    judged = judge(evidence(logits, logits, logits=evil, labels=[evil] * 3))
    case = case_record(
        evil,
        gate=judged.gate,
        outputs=list(judged.outputs),
        discrimination=Discrimination(3, 0.1, 3, 1.0, 1.0, 0.9),
        reference=leg("cpu"),
        candidate=leg("npu"),
        weights=evil,
        reason=evil,
        findings=[Finding(Status.FAIL_NAN, Stage.COMPARE, evil)] * 2,
        log_tail=evil,
        status=Status.FAIL_NAN,
    )
    shown = page.render_summary(None, [case], [evil]) + fragments.render_case(case)
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown


def test_long_texts_are_folded_and_kept():
    shown = fragments.render_case(crashed("a", "<b>" + "word " * 1000))
    assert shown.count("word " * 1000) == 4  # conclusion, two findings, output
    assert shown.count("<summary>") == 4 and "<b>" not in shown


def test_a_row_keeps_links_and_says_what_was_not_measured():
    given = [
        '<td class="col-result">Passed</td>',
        '<td class="col-testId">t.py::a</td>',
        '<td class="col-duration">1 ms</td>',
        '<td class="col-links"><a href="x">x</a></td>',
    ]
    cells = fragments.row(given, {"case": "<m>", "status": "pass", "budget_ratio": "1.5"})
    assert len(cells) == len(fragments.headers(["<th>Result</th>"] * 3 + ["<th>Links</th>"])) == 8
    assert cells[1] == '<td class=col-testId>&lt;m&gt; <a href="x">x</a></td>'
    assert cells[2] == "<td class=col-status>pass</td>" and "1.5" in cells[3]
    assert "not measured" in cells[4] and cells[6] == "<td class=col-reason></td>"
    culprit = fragments.row(given, {"culprit": "aten::<mm> in a", "reason": "It errs."})
    assert culprit[6] == "<td class=col-reason>Culprit aten::&lt;mm&gt; in a</td>"
    failed = fragments.row(given, {"culprit": "none", "reason": "Key <a> is missing."})
    assert failed[6] == "<td class=col-reason>Key &lt;a&gt; is missing.</td>"
    assert fragments.row(given[:3], {})[1:3] == [
        "<td class=col-testId>t.py::a</td>",
        "<td class=col-status>no case</td>",
    ]


def test_cells_sort_as_their_numbers():
    numbers = [0.0, 1e-300, 1.2e-10, 0.5, 1.1, 9.9, 10.0, 1e12, math.inf]
    keys = [fragments.sortable(number) for number in numbers]
    assert keys == sorted(keys) and len(set(keys)) == len(keys)
    assert fragments.sortable(-1e-14) == "0" and fragments.sortable(math.nan) > keys[-1]


def test_what_is_said_passes_the_filter_of_foreign_text_too():
    said = say("batch.ended", "{status}: {reason}", status="fail_nan", reason="\x1b[31m<b>")
    shown = fragments.ENVIRONMENT.from_string("{{ said }}").render(said=said)
    assert "\x1b" not in shown and "<b>" not in shown and "fail_nan" in shown


def test_values_of_the_environment_are_escaped_and_its_names_are_not():
    found = fragments.escaped({"a<": "<b>", "Packages": {"<p>": "1"}})
    assert found == {"a<": "&lt;b&gt;", "Packages": {"&lt;p&gt;": "1"}}
