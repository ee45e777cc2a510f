import re

from harness.report.port import texts
from harness.system.status import Status


def test_every_text_exists_in_both_languages_with_the_same_values():
    for key, both in texts.every().items():
        assert set(both) == {"en", "zh"}, key
        found = [sorted(set(re.findall(r"{(\w+)}", text))) for text in both.values()]
        assert found[0] == found[1], key
        assert re.search(r"[\u4e00-\u9fff]", both["zh"]) or both["zh"] == both["en"], key
    assert {f"status.{s.value}" for s in Status if s is not Status.PASS} <= set(texts.every())
