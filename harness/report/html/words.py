"""The page's texts in another language: the script of the page puts them in place.

The page's own are in zh.toml; reasons and notes of records are made of their messages, by id.
What a record says without an id stays English.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from markupsafe import Markup

from harness.records.lines import CaseRecord
from harness.report.html import glossary
from harness.report.port import translation
from harness.report.tables import detection, expected, failures, localization, throughput
from harness.report.tables.per_case import PROTOCOL_ALONE
from harness.system.messages import Said
from harness.system.toml import tomllib

Language = Literal["en", "zh"]
_FILE = Path(__file__).with_name("zh.toml")


def read() -> dict[str, dict[str, str]]:
    """`exact`: English text -> Chinese; `patterns`: with groups, as JavaScript has them."""
    found: dict[str, dict[str, str]] = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    meanings = {glossary.MEANING[name]: text for name, text in found.pop("meanings").items()}
    return {**found, "exact": {**meanings, **found["exact"]}}


def sentences(cases: Iterable[CaseRecord]) -> dict[str, str]:
    """What these records say of themselves, English -> Chinese; what has no id is not there."""
    cases = list(cases)
    groups = failures.grouped([case for case in cases if not expected.is_fine(case)])
    lines: list[str] = [line for one in groups for line in (one.line, *map(one.detail, one.cases))]
    found = _translated(lines)
    for case in cases:
        said = [(one.reason, one.messages, one.status.value) for one in case.findings]
        said.append((case.reason, case.reason_messages, case.status.value))
        notes = zip(case.notes, case.note_messages, strict=False)
        said += [(text, tuple(messages), "Note") for text, messages in notes]
        said_of_it = [
            *localization.lines(case),
            *throughput.lines(case),
            detection.line(case) or "",
        ]
        found |= _translated(said_of_it)
        for text, messages, word in said:
            if messages and translation.known(messages):
                chinese = translation.chinese(messages)
                headed = f"{'附注' if word == 'Note' else word}：{chinese}"
                found |= {
                    text: chinese,
                    f"{word}: {text}": headed,
                    f"{word}: {text}{PROTOCOL_ALONE}": f"{headed}仅按标准测试方案会判为通过。",
                }
    return found


def _translated(lines: Iterable[str]) -> dict[str, str]:
    return {
        line: translation.chinese(line.messages)
        for line in lines
        if isinstance(line, Said) and translation.known(line.messages)
    }


def element(language: Language, cases: Iterable[CaseRecord] = ()) -> Markup:
    """The element that the script of the page reads; "" for English."""
    if language == "en":
        return Markup("")
    found = read()
    # As the script compares: blanks are one.
    own = {" ".join(text.split()): said for text, said in sentences(cases).items()}
    document = json.dumps(
        {"language": "zh-CN", **found, "exact": {**own, **found["exact"]}}, ensure_ascii=False
    )
    return Markup('<script type="application/json" id="harness-words">{}</script>').format(
        Markup(document.replace("<", "\\u003c"))
    )
