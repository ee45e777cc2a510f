"""Texts of the port report in both languages, from port.toml."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from harness.records.lines import CaseRecord
from harness.report.markdown import Verbatim, escaped
from harness.report.port import translation
from harness.system.messages import Message
from harness.system.toml import tomllib

Language = Literal["zh", "en"]
LANGUAGES: tuple[Language, ...] = ("zh", "en")
_FILE = Path(__file__).with_name("port.toml")

# Longer texts are cut in the document; the JSON beside it holds all of them.
_LONGEST = 600


@functools.cache
def every() -> dict[str, dict[str, str]]:
    """Every text by its dotted key and language."""
    found: dict[str, dict[str, str]] = {}

    def walk(table: dict[str, Any], prefix: str) -> None:
        for key, value in table.items():
            if isinstance(next(iter(value.values())), str):
                found[prefix + key] = value
            else:
                walk(value, f"{prefix}{key}.")

    walk(tomllib.loads(_FILE.read_text(encoding="utf-8")), "")
    return found


@dataclasses.dataclass(frozen=True)
class Texts:
    """The texts of a language."""

    language: Language

    def __call__(self, key: str, **values: object) -> Verbatim:
        """A text by its key; values that are put in are escaped."""
        shown = {name: escaped(as_text(value)) for name, value in values.items()}
        text = every()[key][self.language].format_map(shown)
        return Verbatim(translation.without_blanks(text) if self.language == "zh" else text)

    def said(self, messages: Iterable[Message], text: str) -> str:
        """A reason or note of a record, by its messages; `text`: as it stands there in English."""
        return translation.chinese(messages) if self.language == "zh" else text

    def listed(self, items: Sequence[str]) -> Verbatim:
        """Items in a row, as the language separates them."""
        return Verbatim(str(self("list.comma")).join(escaped(item) for item in items))

    def because(self, key: str, main: CaseRecord | None) -> Verbatim:
        """Why something is missing; `key` "missing.ended" stands for how the case ended."""
        if key == "missing.ended" and main is not None:
            return self("missing.ended", status=main.status.value)
        return self(key)

    def cut(self, text: str) -> str:
        """Shorten a very long text and say how much is left out."""
        if len(text) <= _LONGEST:
            return text
        return self("cut", text=text[:_LONGEST], more=len(text) - _LONGEST)


def as_text(value: object) -> str:
    """Text as it is, also `Verbatim`; anything else as Python shows it."""
    return value if isinstance(value, str) else str(value)
