"""The page's texts in another language, from zh.toml: the script of the page puts them in place.

Records hold English; reasons and notes of cases stay as they are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from markupsafe import Markup

from harness.report.html import glossary
from harness.system.toml import tomllib

Language = Literal["en", "zh"]
_FILE = Path(__file__).with_name("zh.toml")


def read() -> dict[str, dict[str, str]]:
    """`exact`: English text -> Chinese; `patterns`: with groups, as JavaScript has them."""
    found: dict[str, dict[str, str]] = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    meanings = {glossary.MEANING[name]: text for name, text in found.pop("meanings").items()}
    return {**found, "exact": {**meanings, **found["exact"]}}


def element(language: Language) -> Markup:
    """The element that the script of the page reads; "" for English."""
    if language == "en":
        return Markup("")
    document = json.dumps({"language": "zh-CN", **read()}, ensure_ascii=False)
    return Markup('<script type="application/json" id="harness-words">{}</script>').format(
        Markup(document.replace("<", "\\u003c"))
    )
