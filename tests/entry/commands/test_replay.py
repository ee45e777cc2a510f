import json
import re
from html import unescape

import pytest

from harness.entry.commands import replay
from harness.system.status import UsageProblem
from tests.makers.report import full_case, unpacked, write


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
