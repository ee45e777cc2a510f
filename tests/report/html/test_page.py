"""The HTML report without a browser: what it holds and what it says of each number."""

import dataclasses
import re

from harness.report.html import page, words
from harness.report.tables import failures
from harness.system.messages import say
from harness.system.status import Finding, Stage, Status
from tests.makers.records import case_record
from tests.makers.report import crashed, full_case, renamed, unpacked


def test_the_verdict_is_a_word_and_stands_before_all_numbers():
    good, bad = full_case("good"), full_case("bad", bad=True)
    for cases, word in (([good], "PASSED"), ([good, bad], "NOT PASSED"), ([], "NOTHING RAN")):
        shown = page.render_summary(None, cases)
        top = re.search(r"harness-top[^>]*>([^<]*)<", shown)[1]
        assert top.startswith(f"{word} - ")
        assert "<table" not in shown[: shown.index(top)]
    assert page.render_summary(None, [good], ["lost<b>"]).count("lost&lt;b&gt;") == 1
    assert "NOT PASSED" in page.render_summary(None, [good], ["lost"])


def test_a_passing_page_opens_with_the_tables_of_its_first_case():
    shown = page.render_summary(None, [full_case("first"), full_case("second")])
    assert shown.count("mean cosine similarity</td>") == 1
    before, tables = shown.split("mean cosine similarity</td>")
    assert "first-synthetic" in before and "<details" not in before and "<svg" not in before
    assert "data:image/jpeg" in tables and "class &lt;0&gt;" in tables and "50.00 %" in tables


def test_a_failing_page_opens_with_its_culprits_one_line_each():
    good, bad = full_case("good"), full_case("bad", bad=True)
    many = [renamed(good, f"good-{i}") for i in range(60)]
    many += [renamed(bad, f"bad-{i}") for i in range(50)]
    shown = page.render_summary(None, [*many, crashed("lost", "It died.")])
    lines = re.findall(r"<summary>(.*?)</summary>", shown)
    assert lines[0] == (
        "fail_accuracy, 50 cases, error up to 686 times the budget: "
        "Culprit aten::convolution.default in blocks.7.conv"
    )
    assert lines[1] == "error_crash: It died."
    assert shown.index(lines[0]) < shown.index("<table")
    assert shown.count("mean cosine similarity</td>") == 1
    assert '<a href="#harness-results" data-case="bad-39">bad-39</a>\n<span>686 times' in shown
    assert "good-7" not in shown and 'data-case="bad-39"' in shown


def test_one_culprit_or_one_sentence_is_one_line_whatever_the_names_in_it():
    bad = full_case("bad", bad=True)
    cases = [renamed(bad, "a"), renamed(bad, "b").model_copy(update={"status": Status.FAIL_NAN})]
    for name, key in (("c", "load.empty"), ("d", "load.empty"), ("e", "load.lfs")):
        reason = say(key, "{path} of " + key, path=f"/models/{name}")
        found = Finding(Status.FAIL_LOAD, Stage.LOAD, reason)
        cases.append(case_record(name, status=found.status, findings=[found], reason=found.reason))
    lines = [group.line for group in failures.grouped(cases)]
    assert lines == [
        "fail_accuracy, fail_nan, 2 cases, error up to 686 times the budget: "
        "Culprit aten::convolution.default in blocks.7.conv",
        "fail_load, 2 cases: /models/c of load.empty",
        "fail_load: /models/e of load.lfs",
    ]
    chinese = words.sentences(cases)
    assert chinese[lines[0]].endswith("：问题算子 aten::convolution.default，位于 blocks.7.conv")
    assert chinese[lines[1]].startswith("fail_load，2 个用例：/models/c 为空（0 字节）")


def test_a_case_whose_sides_are_equal_says_so():
    case = full_case("a")
    equal = [dataclasses.replace(out, max_abs_error=0.0) for out in case.outputs]
    shown = page.render_summary(None, [case.model_copy(update={"outputs": equal})])
    assert "equal in every value of every output" in shown
    assert ", all values equal" in shown and "Device and CPU are equal" in shown
    assert "equal in every value" not in page.render_summary(None, [case])


def test_each_plot_has_a_sentence_and_a_difference_no_limit():
    shown = page.render_summary(None, [full_case("a"), full_case("b")])
    assert shown.count("<svg") == shown.count("<figcaption>") - 6 == 4  # six images
    plot = re.search(r"minus CPU, output of a.*?</figure>", shown, re.S)[0]
    assert "stroke-dasharray" not in plot and "A right device gives a cloud" in plot


def test_all_details_are_packed_and_the_plots_are_those_of_failures():
    good, bad = full_case("good"), full_case("bad", bad=True)
    many = [renamed(good, f"good-{i}") for i in range(12)] + [renamed(bad, "bad")]
    details = unpacked(page.render_scripts(many))
    assert list(details) == [case.case_id for case in many]
    assert details["bad"].count("<svg") == 4 and "blocks.7.conv" in details["bad"]
    assert "<svg" not in details["good-0"] and "Provenance" in details["good-0"]
    (few,) = unpacked(page.render_scripts([good])).values()
    assert few.count("<svg") == 3 and few.count("data-picture") == 6


def test_cases_without_a_row_have_a_place_above_the_results():
    a, b = case_record("a"), case_record("b", Status.ERROR_CRASH)
    shown = page.render_controls([a, b], {a.case_id})
    assert f'data-case="{b.case_id}"' in shown and f'data-case="{a.case_id}"' not in shown
