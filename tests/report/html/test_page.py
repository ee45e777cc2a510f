"""The HTML report without a browser: what it holds and what it says of each number."""

import json
import re
from html import unescape

import pytest

from harness.entry.commands import replay
from harness.judgement.localization import Localization
from harness.judgement.metrics import SAMPLE_SIZE
from harness.records.expectation import Expectation, ExpectedRow, Outcome
from harness.report.html import fragments, glossary, page, plots
from harness.report.tables import expected, localization, per_case, provenance
from harness.report.tables import trend as trends
from harness.report.tables import two_runs as compared
from harness.system.status import Status, UsageProblem
from harness.upgrade import compare, history
from tests.makers.records import case_record
from tests.makers.report import crashed, full_case, operator, renamed, unpacked, write
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


def test_the_verdict_is_a_word_and_stands_before_all_numbers():
    good, bad = full_case("good"), full_case("bad", bad=True)
    for cases, word in (([good], "PASSED"), ([good, bad], "NOT PASSED"), ([], "NOTHING RAN")):
        shown = page.render_summary(None, cases)
        top = re.search(r"harness-top[^>]*>([^<]*)<", shown)[1]
        assert top.startswith(f"{word} - ")
        assert "<table" not in shown[: shown.index(top)]
    assert page.render_summary(None, [good], ["lost<b>"]).count("lost&lt;b&gt;") == 1
    assert "NOT PASSED" in page.render_summary(None, [good], ["lost"])


def test_few_cases_stand_in_the_summary_and_of_many_only_some_that_failed():
    good, bad = full_case("good"), full_case("bad", bad=True)
    few = page.render_summary(None, [good, bad])
    assert few.count("mean cosine similarity</td>") == 2
    assert few.index("harness-fail_accuracy") < few.index('"harness-case harness-pass"')
    many = [renamed(good, f"good-{i}") for i in range(60)]
    many += [renamed(bad, f"bad-{i}") for i in range(50)]
    shown = page.render_summary(None, many)
    assert shown.count("mean cosine similarity</td>") == 2
    assert "good-7" not in shown and "bad-39" in shown
    assert "Not as they should be: 50 of 110 cases, the first 40" in shown
    assert "48 more cases" in shown


def test_all_details_are_packed_and_the_plots_are_those_of_failures():
    good, bad = full_case("good"), full_case("bad", bad=True)
    many = [renamed(good, f"good-{i}") for i in range(12)] + [renamed(bad, "bad")]
    details = unpacked(page.render_scripts(many))
    assert list(details) == [case.case_id for case in many]
    assert details["bad"].count("<svg") == 2 and "blocks.7.conv" in details["bad"]
    assert "<svg" not in details["good-0"] and "Provenance" in details["good-0"]
    (few,) = unpacked(page.render_scripts([good])).values()
    assert few.count("<svg") == 1


def test_cases_without_a_row_have_a_place_above_the_results():
    a, b = case_record("a"), case_record("b", Status.ERROR_CRASH)
    shown = page.render_controls([a, b], {a.case_id})
    assert f'data-case="{b.case_id}"' in shown and f'data-case="{a.case_id}"' not in shown


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
    assert cells[1] == '<td class="col-testId">&lt;m&gt; <a href="x">x</a></td>'
    assert cells[2] == '<td class="col-status">pass</td>' and "1.5" in cells[3]
    assert "not measured" in cells[4] and "not looked for" in cells[6]
    assert fragments.row(given[:3], {})[1:3] == [given[1], '<td class="col-status">no case</td>']


def test_values_of_the_environment_are_escaped_and_its_names_are_not():
    found = fragments.escaped({"a<": "<b>", "Packages": {"<p>": "1"}})
    assert found == {"a<": "&lt;b&gt;", "Packages": {"&lt;p&gt;": "1"}}


def test_the_plots_say_what_they_show_and_are_the_same_every_time():
    case = full_case("m<o>del", bad=True, kind="npu-emulated")
    shown = plots.budgets([case])
    assert "1 beyond the limit - EMULATED" in shown and shown == plots.budgets([case])
    both = plots.agreement(case)
    assert "m_o_del" in both and "EMULATED" in both and "#010203" not in both
    assert plots.agreement(case, copy="other") != both
    assert plots.budgets([case_record()]) is None and plots.agreement(case_record()) is None


def test_the_plots_bear_what_is_no_number_and_names_in_any_script():
    case = full_case("名前 $x_1$")
    (row,) = case.budgets
    nan = float("nan")
    broken = case.model_copy(update={"budgets": [type(row)(**{
        **vars(row), "ratio": nan, "image_ratios": (nan, float("inf"), *row.image_ratios[2:])
    })]})  # fmt: skip
    assert "1 beyond the limit" in plots.budgets([broken])
    assert "<svg" in plots.agreement(broken)
    renamed_case = renamed(case, "名前 $x_1$")
    assert "名前 $x_1$" in plots.budgets([renamed_case])


def test_a_record_from_before_values_were_kept_has_its_other_plots():
    case = full_case("a")
    old = [type(out)(**{**vars(out), "sample": None}) for out in case.outputs]
    shown = plots.agreement(case.model_copy(update={"outputs": old}))
    assert "values were not kept" in shown and "budget ratio" in shown


def test_the_trend_has_a_plot(tmp_path):
    for day, ratio in ((1, 1.0), (2, 1.5), (3, 20.0)):
        history.append(tmp_path, last := ran(day, sides(ratio), torch=str(day)))
    shown = page.render_trend(history.of_run(tmp_path, last))
    assert "Budget ratios of 1 cases over 3 runs" in shown and "2026-01-02" in shown
    assert page.render_trend(history.of_run(tmp_path, ran(9, sides()))[:1]) == ""


def test_the_sample_is_part_of_the_record_and_small():
    (out,) = full_case("a", bad=True).outputs
    assert len(out.sample.reference) == len(out.sample.difference) <= SAMPLE_SIZE
    assert out.sample.total == 600
    assert max(map(abs, out.sample.difference)) == pytest.approx(out.max_abs_error, rel=1e-2)


def test_a_page_is_made_of_records_alone(tmp_path):
    cases = [full_case("good"), full_case("bad", bad=True)]
    results = write(tmp_path / "run", *cases, ASCEND_X="<script>")
    replay.write_page(results, tmp_path / "out" / "page.html")
    text = (tmp_path / "out" / "page.html").read_text()
    assert "NOT PASSED - 2 cases: 1 fail_accuracy, 1 pass" in text
    assert list(unpacked(text)) == [case.case_id for case in cases]
    assert "EMULATED" not in text
    blob = json.loads(unescape(re.search('jsonblob="([^"]*)"', text)[1]))
    assert [list_[0]["result"] for list_ in blob["tests"].values()] == ["Passed", "Failed"]
    assert blob["environment"]["ASCEND_X"] == "&lt;script&gt;"
    assert "aten::convolution.default in blocks.7.conv" in str(blob["tests"])


def test_a_page_that_cannot_be_written_is_one_sentence(tmp_path):
    results = write(tmp_path, full_case("a"))
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageProblem, match="give --output FILE"):
        replay.write_page(results, tmp_path / "file" / "page.html")


def test_a_culprit_is_a_property_where_one_was_looked_for():
    from harness.report import junit

    assert dict(junit.properties(full_case("a", bad=True)))["culprit"].endswith("blocks.7.conv")
    looked = full_case("a", localization=Localization("float16", 0, 2, (operator(0),)))
    assert dict(junit.properties(looked))["culprit"] == "none"
    assert "culprit" not in dict(junit.properties(full_case("a")))
