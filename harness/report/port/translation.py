"""Reasons and notes of records in Chinese, by the ids of their messages and never by their text."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from pathlib import Path

from harness.system.messages import PLAIN, Message
from harness.system.toml import tomllib

_BESIDE = re.compile(r"(?<=[，。；：、（）“”]) +(?=\S)|(?<=\S) +(?=[，。；：、（）“”])")
_FILE = Path(__file__).with_name("messages.toml")


@functools.cache
def every() -> dict[str, str]:
    """The Chinese of every message by id, with {name} for its values."""
    found: dict[str, str] = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return found


def chinese(messages: Iterable[Message]) -> str:
    """Sentences one after the other; what has no id, as in older records, is quoted as such."""
    return without_blanks("".join(map(_one, messages)))


def known(messages: Iterable[Message]) -> bool:
    """Whether all of these sentences, and those within them, have their Chinese."""
    return all(
        one.id in every() and all(isinstance(v, str) or known(v) for v in one.values.values())
        for one in messages
    )


def without_blanks(text: str) -> str:
    """Text without blanks beside full-width marks, which are as wide as one already."""
    return _BESIDE.sub("", text)


def _one(message: Message) -> str:
    values = {
        name: value if isinstance(value, str) else chinese(value)
        for name, value in message.values.items()
    }
    text = every().get(message.id)
    if message.id == PLAIN or text is None:
        # An id of a later version: its values alone would say nothing.
        quoted = values.get("text", message.id)
        return f"英文原文：“{quoted}”"
    return text.format_map(_Known(values))


class _Known(dict[str, str]):
    """Values of a message; a record of another version may lack one."""

    def __missing__(self, name: str) -> str:
        return "?"
