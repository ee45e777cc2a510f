"""The HTML report in a real browser: what a reader does works, without network or errors."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from harness.system.files import ROOT
from harness.system.status import Status
from tests.makers.evidence import LABELS
from tests.makers.report import chromium, crashed, full_case, renamed, write

_LONG = "<b>long</b> " + "text " * 2000


pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        chromium() is None,
        reason="no Chromium: install Debian's package chromium, or name it in HARNESS_CHROMIUM",
    ),
]


def make_page(folder: Path, *cases, language: str = "en") -> Path:
    """Write records and make their page as a user does."""
    write(folder, *cases, ASCEND_X="<i>set</i>")
    command = [sys.executable, "-m", "harness", "report", "--format", "html", str(folder)]
    command += ["--lang", language]
    subprocess.run(command, cwd=ROOT, check=False, capture_output=True, timeout=120)
    return folder / "accuracy.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"]
        )
        yield started
        started.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """Twelve passes, two failures with a culprit, and a crash with a very long message."""
    good = full_case("resnet50", kind="npu-emulated")
    bad = full_case("vit_base", bad=True, kind="npu-emulated")
    return make_page(
        tmp_path_factory.mktemp("report"),
        *(renamed(good, f"resnet50-{number:02}", 1 + number) for number in range(12)),
        renamed(bad, "vit_base-a"),
        renamed(bad, "vit_base-<b>名前</b>"),
        crashed("long_" + "name" * 40, _LONG),
    )


@pytest.fixture
def opened(browser) -> Iterator:
    """Opens pages; afterwards none may have asked the network or complained."""
    contexts, trouble, requests = [], [], []

    def open_(path: Path, **options) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1300, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.goto(path.as_uri())
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not trouble
    assert requests, "the page itself is a request: else nothing was watched"
    assert all(url.startswith(("file:", "data:", "blob:")) for url in requests)


def shown(page: Page) -> list[str]:
    """Ids of the cases whose rows are to be seen, in their order."""
    return page.locator(".results-table-row .col-testId:visible").all_inner_texts()


def test_the_first_thing_to_see_is_the_verdict_and_that_it_is_emulated(opened, report):
    page = opened(report)
    top = page.locator(".harness-top")
    expect(top).to_have_text("NOT PASSED - 15 cases: 1 error_crash, 2 fail_accuracy, 12 pass - "
                             "EMULATED: no evidence about NPU hardware")  # fmt: skip
    for part in (top, page.locator(".harness-banner")):
        expect(part).to_be_in_viewport(ratio=1)


def test_search_goes_over_ids_statuses_and_operators(opened, report):
    page = opened(report)
    assert len(shown(page)) == 15
    for words, count in (
        ("vit_base", 2), ("FAIL_ACCURACY", 2), ("blocks.7.conv", 2), ("resnet50-0", 10),
        ("convolution vit_base-a", 1), ("名前", 1), ("nothing like it", 0),
    ):  # fmt: skip
        page.get_by_label("Search").fill(words)
        assert len(shown(page)) == count, words
        expect(page.locator("#harness-count")).to_have_text(f"{count} of 15 results")
    expect(page.get_by_text("No case fits")).to_be_visible()
    page.get_by_label("Search").fill("")
    assert len(shown(page)) == 15


def test_statuses_and_pytest_html_s_own_filter_work_together(opened, report):
    page = opened(report)
    status = page.get_by_label("Status")
    assert status.locator("option").all_inner_texts() == [
        "all", "error_crash", "fail_accuracy", "pass",
    ]  # fmt: skip
    status.select_option("fail_accuracy")
    assert len(shown(page)) == 2
    page.get_by_label("show 3 Failed").uncheck()
    assert shown(page) == []
    page.get_by_label("show 3 Failed").check()
    status.select_option("")
    page.get_by_label("show 12 Passed").uncheck()
    assert len(shown(page)) == 3


def test_columns_sort_as_numbers_and_the_status_stays(opened, report):
    page = opened(report)
    page.get_by_label("Status").select_option("pass")
    head = page.locator("#results-table-head th", has_text="Budget ratio")

    def ratios() -> list[float]:
        cells = page.locator(".results-table-row .col-ratio:visible").all_inner_texts()
        return [float(text) for text in cells]

    head.click()
    one, order = ratios(), head.get_attribute("aria-sort")
    head.click()
    assert ratios() == one[::-1] and head.get_attribute("aria-sort") != order
    assert one == sorted(one, reverse=one[0] > one[-1])
    assert len(one) == 12 and min(one) < 2 and max(one) > 10  # as text, 10 comes before 2


def test_a_failing_case_unfolds_to_its_culprit_tables_and_plots(opened, report):
    page = opened(report)
    page.get_by_label("Search").fill("vit_base-a")
    row = page.locator("tbody:visible", has=page.locator(".collapsible", has_text="vit_base-a"))
    expect(row.get_by_text("Culprit: aten::convolution")).to_have_count(0)
    row.locator(".col-result").click()
    expect(row.get_by_text("Culprit: aten::convolution")).to_be_visible()
    expect(row.locator("svg")).to_have_count(4)
    assert (
        row.locator(".harness-image img").evaluate_all("all => all.map((one) => one.naturalWidth)")
        == [8] * 6
    )
    expect(row.get_by_text("Where it goes wrong")).to_be_visible()
    row.locator(".col-result").click()
    expect(row.get_by_text("Culprit: aten::convolution")).to_be_hidden()


def test_a_cause_unfolds_to_its_cases_and_leads_to_each(opened, report):
    page = opened(report)
    line = page.locator(".harness-failures summary", has_text="Culprit")
    expect(line).to_contain_text("2 cases")
    line.click()
    page.get_by_role("link", name="vit_base-<b>名前</b>").click()
    assert shown(page) == ["vit_base-<b>名前</b>"]
    expect(page.locator(".results-table-row .harness-case")).to_be_visible()


def test_hovering_a_number_gives_its_unit_and_formula(opened, report):
    page = opened(report)
    page.get_by_label("Search").fill("vit_base-a")
    page.locator(".col-result:visible").click()
    row = page.locator("tbody:visible .extras-row")
    for word, text in (
        ("error rate", "(1 - mean cosine similarity) x 100 %"),
        ("MAE", "|p - q|"),
        ("budget ratio", "rmse(device - x) / rmse(budget - x)"),
    ):
        cell = row.locator(f'th:text-is("{word}"), td:text-is("{word}")').first
        cell.hover()
        assert text in cell.get_attribute("title")


def test_the_environment_is_copied(opened, report):
    page = opened(report, permissions=["clipboard-read", "clipboard-write"])
    button = page.get_by_role("button", name="Copy", exact=True)
    button.click()
    expect(page.locator("#harness-copy")).to_have_text("Copied")
    text = page.evaluate("navigator.clipboard.readText()")
    assert text.startswith("NOT PASSED - 15 cases") and "EMULATED" in text
    assert "torch: 2.8.0" in text and "ASCEND_X: <i>set</i>" in text


def test_the_environment_is_copied_where_the_clipboard_is_refused(opened, report):
    page = opened(report)
    page.evaluate(
        "Object.defineProperty(navigator, 'clipboard', {get() { throw new Error('refused'); }})"
    )
    page.evaluate(
        "document.addEventListener('copy', () => { window.copied = String(getSelection()) "
        "|| document.activeElement.value; })"
    )
    page.get_by_role("button", name="Copy", exact=True).click()
    expect(page.locator("#harness-copy")).to_have_text("Copied")
    assert "torch: 2.8.0" in page.evaluate("window.copied")


def test_rows_and_columns_are_reached_by_key(opened, report):
    page = opened(report)
    page.get_by_label("Search").fill("vit_base-a")
    page.locator(".col-result:visible").press("Enter")
    row = page.locator("tbody:visible")
    expect(row.get_by_text("Culprit: aten::convolution")).to_be_visible()
    assert page.evaluate("document.activeElement.className").startswith("col-result")
    page.locator("#results-table-head th", has_text="Status").press("Enter")
    assert page.evaluate("document.activeElement.dataset.columnType") == "status"


def test_text_from_outside_stays_text(opened, report):
    page = opened(report)
    page.locator("#show_all_details").click()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    expect(page.locator(".harness-lazy", has_text="long").first).to_be_attached()
    assert page.locator("#results-table b, .harness-case b, #environment i").count() == 0


@pytest.mark.parametrize(("width", "scheme"), [(1300, "light"), (400, "dark")])
def test_nothing_is_wider_than_the_window_and_axe_finds_nothing_serious(
    opened, report, width, scheme
):
    page = opened(report, viewport={"width": width, "height": 900}, color_scheme=scheme)
    for name in ("vit_base-a", "long_name"):
        page.get_by_label("Search").fill(name)
        page.locator(".col-result:visible").click()
        expect(page.locator("tbody:visible .harness-case")).to_be_visible()
    page.get_by_label("Search").fill("")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.wait_for_timeout(200)  # boxes that scroll have become reachable by key
    found = Axe().run(page).response["violations"]
    serious = [f for f in found if f["impact"] in ("serious", "critical")]
    assert not [(f["id"], [node["html"][:200] for node in f["nodes"][:3]]) for f in serious]


def test_what_is_printed_is_unfolded_and_without_controls(opened, report):
    page = opened(report)
    page.locator("#show_all_details").click()
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    expect(page.locator("#harness-search")).to_be_hidden()
    assert page.locator(".harness-lazy .harness-case").count() == 15
    assert page.pdf()[:5] == b"%PDF-"


def test_the_page_in_chinese(opened, tmp_path):
    good = renamed(full_case("a", kind="npu-emulated"), "good")
    bad = full_case("vit", bad=True, kind="npu-emulated")
    page = opened(make_page(tmp_path, good, bad, language="zh"))
    expect(page.locator(".harness-top")).to_have_text(
        "未通过：共 2 个用例，1 fail_accuracy, 1 pass（EMULATED：不能作为 NPU 硬件精度的依据）"
    )
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    page.get_by_label("搜索").fill("good")
    expect(page.locator("#harness-count")).to_have_text("2 个结果中的 1 个")
    page.locator(".col-result:visible").click()
    row = page.locator("tbody:visible .harness-case")
    expect(row.get_by_text("平均余弦相似度")).to_be_visible()
    expect(row.get_by_text("通过：误差率")).to_be_visible()
    # Nothing that a reader needs first is left in English.
    read = "caption, figcaption, h1, h2, .harness-banner, .harness-failures summary"
    texts = page.locator(f":is({read}):visible").all_inner_texts()
    left = [text for text in texts if not re.search(r"[\u4e00-\u9fff]", text)]
    ids = (*LABELS, bad.case_id, "Top-1")
    assert len(texts) > 15 and not [text for text in left if not text.startswith(ids)]
    cell = row.locator("td", has_text="误差率").first
    assert "余弦相似度" in cell.get_attribute("title")
    found = Axe().run(page).response["violations"]
    assert not [f["id"] for f in found if f["impact"] in ("serious", "critical")]


@pytest.mark.parametrize("count", [0, 1])
def test_no_case_and_one_case(opened, tmp_path, count):
    good = full_case("a")
    page = opened(make_page(tmp_path, *[good][:count]))
    word = ("NOTHING RAN - No case was run.", "PASSED - 1 case: 1 pass")[count]
    expect(page.locator(".harness-top")).to_have_text(word)
    assert page.locator(".harness-banner").count() == 0
    assert shown(page) == [good.case_id][:count]
    if count:
        expect(page.locator(".summary td", has_text="mean cosine").first).to_be_in_viewport()
    assert full_case("b").status is Status.PASS
