"""The page's Chinese words: all that is explained, nothing that is not there."""

import re

from harness.report.html import glossary, words
from harness.system.toml import tomllib


def test_every_explained_name_is_explained_in_chinese():
    found = tomllib.loads(words._FILE.read_text(encoding="utf-8"))
    assert found["meanings"].keys() == glossary.MEANING.keys()
    assert all(re.search(r"[\u4e00-\u9fff]", text) for text in found["meanings"].values())


def test_patterns_have_the_groups_that_they_put_in():
    for pattern, text in words.read()["patterns"].items():
        groups = re.compile(pattern).groups
        put = {int(number) for number in re.findall(r"\$(\d)", text)}
        assert put <= set(range(1, groups + 1)), pattern


def test_the_element_cannot_end_early():
    assert words.element("en") == ""
    assert words.element("zh").count("<") == 2


def test_a_page_has_one_language(tmp_path):
    from harness.entry.commands import main

    (tmp_path / "results.jsonl").write_text("")
    assert (
        main.main(["report", "--format", "html", "--lang", "zh", "--lang", "en", str(tmp_path)])
        == 4
    )
