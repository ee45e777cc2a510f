"""Any text in any field of a record: no traceback, no control character, no path outside."""

import contextlib
import io
import json
import random
import unicodedata

import hypothesis
import pydantic
import pytest
from hypothesis import strategies as st
from playwright.sync_api import sync_playwright

from harness.entry.commands import replay
from harness.entry.commands.main import main
from harness.judgement.localization import Localization
from harness.records import consistency
from harness.records.lines import CaseRecord
from harness.runs import resume
from harness.system.status import Finding, Stage, Status, UsageProblem
from tests.makers.records import leg, measured, run_record
from tests.makers.report import chromium, write

TEXT = st.text(max_size=40) | st.sampled_from(
    [
        "\x1b]0;x\x07",
        "\u202e",
        "::error::x",
        "../../x",
        "/etc/passwd",
        "a\nb",
        "`<b>|",
        "=1+1",
        "\0",
    ]
)
UNSEEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
NUMBER = st.floats() | st.integers(-(2**70), 2**70) | st.sampled_from(["NaN", "-Infinity"])


def plain_record():
    finding = Finding(Status.FAIL_ACCURACY, Stage.COMPARE, "why")
    localization = Localization(reproducers=("reproducers/a/0001-x.py",))
    case = measured(
        status=Status.FAIL_ACCURACY, findings=[finding], notes=["n"], labels=["l"] * 6,
        candidate=leg("cpu"), reference=leg("cpu"), localization=localization, weights="w",
    )  # fmt: skip
    return json.loads(case.model_dump_json())


def leaves(value, path=()):
    """Paths of all texts and numbers."""
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in leaves(item, (*path, key))]
    if isinstance(value, list):
        return [found for i, item in enumerate(value) for found in leaves(item, (*path, i))]
    return [path] if isinstance(value, (str, int, float)) else []


PATHS = [path for path in leaves(plain_record()) if path not in (("type",), ("schema_version",))]


@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
@hypothesis.given(data=st.data())
def test_any_field_of_a_record(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    raw = plain_record()
    for path in data.draw(st.lists(st.sampled_from(PATHS), min_size=1, max_size=4)):
        at = raw
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = data.draw(TEXT if isinstance(at[path[-1]], str) else NUMBER)
    own = json.loads(run_record(str(raw["case_id"]), data.draw(TEXT)).model_dump_json())
    (folder / "run").mkdir()
    text = "".join(json.dumps(line) + "\n" for line in (own, raw))
    (folder / "run" / "results.jsonl").write_text(text)
    run = str(folder / "run")
    commands = [["report", run, "--format", form] for form in ("text", "markdown", "csv")]
    commands += [["merge", run, "--output", str(folder / "whole")], ["compare", run, run]]
    for command in commands:
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
            assert main(command) in (0, 1, 4, 10, 11, 12)
        unseen = {char for char in shown.getvalue() if unicodedata.category(char) in UNSEEN}
        assert unseen <= {"\n"}
        assert not any(line.lstrip().startswith("::") for line in shown.getvalue().splitlines())
    with contextlib.suppress(UsageProblem):
        resume.read(folder / "run")
    assert {path.name for path in folder.iterdir()} <= {"run", "whole"}


HOSTILE = (
    "<script>window.owned = 1</script>", "</script><script>window.owned = 1</script>",
    "<img src=x onerror='window.owned = 1'>", "\"><svg onload=window.owned=1>",
    "' onmouseover='window.owned = 1", "javascript:window.owned=1", "{{ 7 * 7 }}", "<!--", "]]>",
    "<a href='http://evil.example/'>x</a>", "<link rel=stylesheet href=http://evil.example/x>",
    "\u202e\x1b[31m", "<b>" * 20, "&lt;script&gt;", "$x_1$", "\\u003cscript>",
)  # fmt: skip


def hostile_records(count):
    """As many records as can be read, a few texts of each hostile."""
    draw, found = random.Random(0), []
    texts = [path for path in PATHS if isinstance(at(plain_record(), path), str)]
    while len(found) < count:
        raw = plain_record() | {"case_id": f"case {len(found)} {draw.choice(HOSTILE)}"}
        for path in draw.sample(texts, 5):
            at(raw, path[:-1])[path[-1]] = draw.choice(HOSTILE)
        with contextlib.suppress(pydantic.ValidationError):
            record = CaseRecord.model_validate(raw)
            if not consistency.of_case(record, None):
                found.append(record)
    return found


def at(raw, path):
    for key in path:
        raw = raw[key]
    return raw


@pytest.mark.browser
@pytest.mark.skipif(chromium() is None, reason="no Chromium: HARNESS_CHROMIUM names one")
def test_no_field_of_a_record_is_markup_in_the_page(tmp_path):
    records = hostile_records(40)
    environment = {f"ASCEND_{n}": text for n, text in enumerate(HOSTILE)}
    results = write(tmp_path, *records, **environment)
    html = tmp_path / "page.html"
    replay.write_page(results, html)
    requests, trouble = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("dialog", lambda dialog: trouble.append(dialog.message))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.goto(html.as_uri())
        page.locator("#show_all_details").click()
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        page.wait_for_function("document.querySelectorAll('.harness-case').length >= 40")
        assert page.evaluate("window.owned") is None
        assert page.locator("[onerror], [onload], [onmouseover], .harness-case a").count() == 0
        assert page.get_by_text("window.owned = 1").count() > 0  # it is there, as text
        browser.close()
    assert not trouble
    assert requests and all(url.startswith(("file:", "data:", "blob:")) for url in requests)
