"""What is shown of foreign text: one filter before a terminal, a log and every report.

A weight's key, a label, a file's name, a field of a record may hold what a terminal obeys (ESC,
OSC), what turns the direction of writing, or a line that a CI system takes for a command.
"""

from __future__ import annotations

import re
import unicodedata

# Cc: control; Cf: joins, direction, tags; Cs, Co: no characters; Zl, Zp: line and paragraph.
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
# GitHub takes `::name::` at the start of a line, after blanks, and `##[name]` anywhere, Azure
# `##vso[name]`.
_COMMAND = re.compile(r"^(\s*):(?=:)")
_OLD_COMMAND = re.compile(r"#(?=#(?:\[|vso\[))")


def line(text: str) -> str:
    """Text as one line without commands: line breaks are spaces, unseen characters U+FFFD."""
    if not text.isascii() or not text.isprintable():
        text = " ".join(text.split())
        text = "".join(
            "\N{REPLACEMENT CHARACTER}" if unicodedata.category(char) in _UNSEEN else char
            for char in text
        )
    if "##" in text:
        text = _OLD_COMMAND.sub("\N{REPLACEMENT CHARACTER}", text)
    return _COMMAND.sub("\\1\N{REPLACEMENT CHARACTER}", text) if "::" in text else text


def lines(text: str) -> str:
    """The same for text of several lines, which keeps its line feeds and its indents."""
    return "\n".join(_indented(one) for one in text.split("\n"))


def _indented(text: str) -> str:
    indent = len(text) - len(text.lstrip(" "))
    return text[:indent] + line(text[indent:])
