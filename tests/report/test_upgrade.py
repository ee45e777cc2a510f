"""The answer on an upgrade in every form."""

import csv
import io
import json
import math
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest

from harness.report import upgrade
from harness.system.files import ROOT
from harness.system.status import UsageProblem
from harness.upgrade import decision, folder
from tests.makers.operators import softmax
from tests.makers.upgrades import TEXTS, qualified

BAD = [softmax(197), softmax(257)]


@pytest.fixture
def found(tmp_path):
    old, new = qualified(tmp_path / "old"), qualified(tmp_path / "new", bad=BAD)
    qualified(new / "half", dtype="float16", emulated=True)
    return decision.decide(folder.read(old), folder.read(new))


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]


def test_every_form_is_written_and_says_the_same(found, tmp_path):
    paths = upgrade.write(found, tmp_path / "out")
    assert {path.suffix for path in paths} == {".html", ".json", ".csv", ".xml", ".txt"}
    text = {path.suffix: path.read_text() for path in paths}
    for suffix in (".html", ".json", ".txt"):
        assert "all 2 _softmax whose last axis is 197 to 257" in text[suffix]
        assert "operators run --call" in text[suffix] and "EMULATED" in text[suffix]
    assert json.loads(text[".json"])["exit_code"] == found.code == 1


def test_the_page_needs_no_other_file_and_has_search_and_matrix(found, tmp_path):
    text = upgrade.upgrade_page.render(found)
    page = Page(text)
    assert not page.addresses and "link" not in page.tags
    assert 'id="harness-search"' in text and "<script>" in text
    assert "3 of 4" not in text  # calls of all formats stand apart
    assert "2 of 4 pass" not in text and "1 of 3 pass, 2 fail, 2 changed" in text


def test_csv_has_a_row_a_call(found):
    rows = list(csv.DictReader(io.StringIO(upgrade.as_csv(found))))
    assert len(rows) == 2 * len(TEXTS)
    failing = [row for row in rows if row["status"] == "fail_accuracy"]
    assert {row["changed"] for row in failing} == {"true"} and len(failing) == 2
    assert {row["changed"] for row in rows if row["dtype"] == "float16"} == {"not compared"}


def test_the_columns_are_documented():
    text = (ROOT / "docs" / "machine-forms.md").read_text()
    for name, meaning in upgrade.COLUMNS.items():
        assert f"| `{name}` | {meaning} |" in text


def test_junit_fails_by_model(found):
    root = ElementTree.fromstring(upgrade.as_junit(found))
    failed = {
        test.get("name") for test in root.iter("testcase") if test.find("failure") is not None
    }
    assert failed == {"operators, float32 (strict)", "a (float32, strict)"}
    skipped = {
        test.get("name") for test in root.iter("testcase") if test.find("skipped") is not None
    }
    assert skipped == {"cases", "fingerprint", "support", "precheck"}
    for suite in root:
        assert int(suite.get("tests")) == len(suite)


def test_an_infinite_ratio_is_json(tmp_path, found):
    (calls,) = [one for one in found.operators if one.failing]
    object.__setattr__(calls.failing[0], "ratio", math.inf)
    assert json.loads(upgrade.as_json(found))["operators"][0]["failing"][0]["ratio"] == "Infinity"


def test_a_folder_that_cannot_be_written_is_bad_input(found, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageProblem, match="give another --output"):
        upgrade.write(found, tmp_path / "file" / "out")
