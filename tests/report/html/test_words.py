"""The page's Chinese words: all that is explained, nothing that is not there."""

import json
import re

from harness.report.html import glossary, words
from harness.report.port import translation
from harness.system.messages import say
from harness.system.status import Finding, Stage, Status
from harness.system.toml import tomllib
from tests.makers.records import case_record


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


def test_reasons_and_notes_are_chinese_by_the_ids_of_their_messages():
    reason = say("zeros.device", "Output {name!r} is all zero on the device alone.", name="logits")
    note = say("cpu.memory", "The CPU side ran out of memory.")
    plain = "something that no id stands for"
    case = case_record(
        status=Status.FAIL_ACCURACY,
        reason=reason,
        findings=[
            Finding(Status.FAIL_ACCURACY, Stage.COMPARE, reason),
            Finding(Status.FAIL_ACCURACY, Stage.COMPARE, plain),
        ],
        notes=[note],
        note_messages=[list(note.messages)],
    )
    found = words.sentences([case])
    chinese = translation.every()["zeros.device"].format(name="logits")
    assert chinese.startswith("输出“logits”")
    assert found[reason] == chinese
    assert found[f"fail_accuracy: {reason}"] == f"fail_accuracy：{chinese}"
    assert found[f"Note: {note}"].startswith("附注：CPU 侧")
    assert plain not in found
    assert json.dumps(chinese, ensure_ascii=False) in words.element("zh", [case])


def test_a_page_has_one_language(tmp_path):
    from harness.entry.commands import main

    (tmp_path / "results.jsonl").write_text("")
    assert (
        main.main(["report", "--format", "html", "--lang", "zh", "--lang", "en", str(tmp_path)])
        == 4
    )
