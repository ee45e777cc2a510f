"""What is shown of foreign text: one filter before a terminal, a log and every report.

A weight's key, a label, a file's name, a field of a record may hold what a terminal obeys (ESC,
OSC), what turns the direction of writing, or a line that a CI system takes for a command.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

# Cc: control; Cf: joins, direction, tags; Cs, Co: no characters; Zl, Zp: line and paragraph.
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
# GitHub takes `::name::` at the start of a line, after blanks, and `##[name]` anywhere, Azure
# `##vso[name]`.
_COMMAND = re.compile(r"^(\s*):(?=:)")
_HIDDEN = "(hidden)"
# The shapes that AWS, GitHub, GitLab, Hugging Face, Slack, OpenAI, Google and JSON web tokens
# document: credentials whatever they are called.
_KEY_SHAPES = (
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[oprsu]_\w{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}"
    r"|\bhf_\w{20,}|\bxox[abeprs]-[\w-]{10,}|\bsk-[\w-]{20,}|\bAIza[\w-]{30,}"
    r"|\beyJ[\w-]{8,512}\.[\w.-]{8,}"
)
# The value of a setting: a user in an address, PEM, HTTP authorization.
_IN_VALUE = (
    rf"(?i)://[^/\s@]*@|-----BEGIN [A-Z ]+-----|\b(?:bearer|basic|digest)\s+\S|{_KEY_SHAPES}"
)
# In prose, where most of these words mean nothing; what stands in the group is kept.  What may fail
# after a repetition is bounded: else hostile text takes the square of its length.
_IN_PROSE = (
    r"(?s)()-----BEGIN [A-Z ]+-----.*?(?:-----END [A-Z ]+-----|\Z)",
    r"(\b[A-Z0-9_]{0,40}(?:TOKEN|SECRET|PASS|KEY|CREDENTIAL|AUTH)[A-Z0-9_]{0,40} ?=)\s*\S+",
    r"(?i)(\bauthorization\s*[:=]\s*)[^\n]+",
    r"(?i)(\bbearer\s+)(?=\S*[\d._/+-])\S{8,}",
    r"(://)[^/\s@]+(?=@)",
    rf"()(?:{_KEY_SHAPES})",
)
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


def document(value: Any) -> str:
    """JSON that a terminal may be given, and a program reads: what `line` replaces is escaped.

    Credentials are masked.  Raises ValueError for a number that is none.
    """
    text = json.dumps(_masked(value), ensure_ascii=False, indent=2, allow_nan=False)
    return "".join(map(_escaped, _OLD_COMMAND.sub(r"\\u0023", text)))


def without_credentials(text: str) -> str:
    """Prose, such as a log, with what looks like a credential as "(hidden)"."""
    for pattern in _IN_PROSE:  # compiled here, and kept by re: every start would pay for it
        text = re.sub(pattern, rf"\1{_HIDDEN}", text)
    return text


def is_credential(value: str) -> bool:
    """Whether the value of a setting looks like a credential, or holds one."""
    return re.search(_IN_VALUE, value) is not None


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return without_credentials(value)
    if isinstance(value, dict):
        return {_masked(key): _masked(item) for key, item in value.items()}
    return [_masked(item) for item in value] if isinstance(value, (list, tuple)) else value


def _escaped(char: str) -> str:
    if char == "\n" or unicodedata.category(char) not in _UNSEEN:
        return char
    return json.dumps(char)[1:-1] if not char.isascii() else f"\\u{ord(char):04x}"


def _indented(text: str) -> str:
    indent = len(text) - len(text.lstrip(" "))
    return text[:indent] + line(text[indent:])
