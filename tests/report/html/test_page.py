"""The HTML report without a browser: what it holds and what it says of each number."""

import re

from harness.report.html import page
from harness.system.status import Status
from tests.makers.records import case_record
from tests.makers.report import full_case, renamed, unpacked


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
