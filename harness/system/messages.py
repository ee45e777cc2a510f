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
from collections.abc import Callable, Iterable, Sequence
from typing import Union

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


def say(key: str, english: str, /, **values: object) -> str:
    """A sentence, a `Said`; `english` has {name} for each of `values`, put in as they print."""
    shown = {
        name: value if isinstance(value, str) else str(value) for name, value in values.items()
    }
    kept = {
        name: list(value.messages) if isinstance(value, Said) else value
        for name, value in shown.items()
    }
    return Said(english.format_map(shown), (Message(key, kept),))


def join(*parts: str) -> str:
    """Sentences one after the other, a `Said`; empty ones are left out."""
    kept = [part for part in parts if part]
    return Said(" ".join(kept), (message for part in kept for message in of(part)))


def listed(items: Sequence[str]) -> str:
    """One or more phrases in a row, a `Said`."""
    return functools.reduce(
        lambda left, right: say("listed", "{left}, {right}", left=left, right=right), items
    )


def of(text: str) -> tuple[Message, ...]:
    """The messages of a text; a text that was never said by `say` is one without an id."""
    if isinstance(text, Said):
        return text.messages
    return (Message(PLAIN, {"text": text}),) if text else ()


def mapped(text: str, change: Callable[[str], str]) -> str:
    """A text and its values with a change applied to each."""
    if not isinstance(text, Said):
        return change(text)
    return Said(change(str.__str__(text)), (_changed(message, change) for message in text.messages))


def _changed(message: Message, change: Callable[[str], str]) -> Message:
    values = {
        name: change(value)
        if isinstance(value, str)
        else [_changed(inner, change) for inner in value]
        for name, value in message.values.items()
    }
    return Message(message.id, values)
