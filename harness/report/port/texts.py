"""Texts of the port report in both languages, from data/port.toml."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from harness.report.markdown import Verbatim, escaped
from harness.system.toml import tomllib

Language = Literal["zh", "en"]
LANGUAGES: tuple[Language, ...] = ("zh", "en")
_FILE = Path(__file__).with_name("port.toml")

# Gives a text by its key, with values put in.
Texts = Callable[..., Verbatim]

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


def texts(language: Language) -> Texts:
    """Return the texts of a language; values that are put in are escaped."""

    def give(key: str, **values: object) -> Verbatim:
        shown = {name: escaped(as_text(value)) for name, value in values.items()}
        return Verbatim(every()[key][language].format_map(shown))

    return give


def as_text(value: object) -> str:
    """Text as it is, also `Verbatim`; anything else as Python shows it."""
    return value if isinstance(value, str) else str(value)


def cut(text: str, t: Texts) -> str:
    """Shorten a very long text and say how much is left out."""
    if len(text) <= _LONGEST:
        return text
    return t("cut", text=text[:_LONGEST], more=len(text) - _LONGEST)
