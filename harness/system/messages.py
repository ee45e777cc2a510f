"""Sentences with an id and values, so that a report in another language need not read English.

    reason = say("nan.device", "Output {name} has {count} NaN values.", name="logits", count=3)

The English stands where the sentence is said; `reason` is that text and carries its `Message`,
which records keep beside it.  Other languages have the sentences by id
(`report/port/messages.toml`); a test holds both against each other.  A value may be a sentence or
phrase of its own.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Union

# Of a text that was said without one, as in older records.
PLAIN = ""


@dataclasses.dataclass(frozen=True)
class Message:
    """What was said: `id`, and `values` as they stand in the text.

    A value that is itself said is a list of messages.  With id "" the value `text` is all there is.
    """

    id: str
    values: dict[str, Union[str, list[Message]]]  # noqa: UP007 - read by pydantic in Python 3.10


class Said(str):
    """An English text that carries its messages."""

    messages: tuple[Message, ...]

    def __new__(cls, text: str, messages: Iterable[Message] = ()) -> Said:
        """Text and the messages that it consists of."""
        made = super().__new__(cls, text)
        made.messages = tuple(messages)
        return made

    def __reduce__(self) -> tuple[type[Said], tuple[str, tuple[Message, ...]]]:
        """As it goes to another process."""
        return Said, (str.__str__(self), self.messages)


def say(key: str, english: str, /, **values: object) -> Said:
    """A sentence; `english` has {name} for each of `values`, put in as they print."""
    shown = {
        name: value if isinstance(value, str) else str(value) for name, value in values.items()
    }
    kept = {
        name: list(value.messages) if isinstance(value, Said) else value
        for name, value in shown.items()
    }
    return Said(english.format_map(shown), (Message(key, kept),))


def join(*parts: str) -> Said:
    """Sentences one after the other; empty ones are left out."""
    kept = [part for part in parts if part]
    return Said(" ".join(kept), (message for part in kept for message in of(part)))


def listed(items: Sequence[str], key: str = "listed", english: str = "{left}, {right}") -> str:
    """One or more names or phrases in a row, to be a value of a message."""
    return functools.reduce(lambda left, right: say(key, english, left=left, right=right), items)


def said(text: str) -> Said:
    """A text with its messages; one that was said without them is quoted in other languages."""
    return text if isinstance(text, Said) else Said(text, of(text))


def of(text: str) -> tuple[Message, ...]:
    """The messages of a text; a text that was never said by `say` is one without an id."""
    if isinstance(text, Said):
        return text.messages
    return (Message(PLAIN, {"text": text}),) if text else ()


def beside(text: str, found: Iterable[Message]) -> Said:
    """A text of a record with the messages that stand beside it; older records have none."""
    return Said(text, tuple(found) or of(text))


def put_beside(record: object, field: str, beside_it: str) -> None:
    """Of a frozen dataclass, when it is made: take the messages of a text into a field beside it.

    What is read from a file stays as it stands there.
    """
    text = getattr(record, field)
    if isinstance(text, Said):
        object.__setattr__(record, beside_it, text.messages)
        object.__setattr__(record, field, str.__str__(text))


def restored(text: str, found: Iterable[Mapping[str, Any]]) -> Said:
    """A text with its messages, which were stored as `dataclasses.asdict` has them."""
    return Said(text, map(_message, found))


def _message(found: Mapping[str, Any]) -> Message:
    values = {
        name: value if isinstance(value, str) else [*map(_message, value)]
        for name, value in found["values"].items()
    }
    return Message(found["id"], values)


def mapped(text: Said, change: Callable[[str], str]) -> Said:
    """A text and its values with a change applied to each."""
    return Said(change(str.__str__(text)), (_changed(message, change) for message in text.messages))


def _changed(message: Message, change: Callable[[str], str]) -> Message:
    values = {
        name: change(value)
        if isinstance(value, str)
        else [_changed(inner, change) for inner in value]
        for name, value in message.values.items()
    }
    return Message(message.id, values)
