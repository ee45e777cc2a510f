import re

from harness.report.port import texts
from harness.system.status import Status


def test_every_text_exists_in_both_languages_with_the_same_values():
    for key, both in texts.every().items():
        assert set(both) == {"en", "zh"}, key
        found = [sorted(set(re.findall(r"{(\w+)}", text))) for text in both.values()]
        assert found[0] == found[1], key
        words = re.search(r"[A-Za-z]", re.sub(r"{\w+}", "", both["en"]))
        assert re.search(r"[\u4e00-\u9fff]", both["zh"]) or both["zh"] == both["en"] or not words, (
            key
        )
    assert {f"status.{s.value}" for s in Status if s is not Status.PASS} <= set(texts.every())


def test_chinese_has_full_width_punctuation_and_the_terms_of_the_field():
    for key, both in texts.every().items():
        plain = re.sub(r"`[^`]*`|\(1[^)]*\)|{\w+}", "", both["zh"])
        assert not re.search(r"[\u4e00-\u9fff“”] ?[,:;()?!]|[,:;()?!] ?[\u4e00-\u9fff“”]", plain), (
            key
        )
        for word in ("替身", "移植", "文档规定", "门限", "英文原文"):
            assert word not in plain, key
