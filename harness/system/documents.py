"""Versioned JSON documents: read, with a sentence for what is wrong, and written in one step."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, Generic, TypeVar

import pydantic

from harness.system import files, foreign
from harness.system.messages import say
from harness.system.status import UsageProblem

Model = TypeVar("Model", bound=pydantic.BaseModel)


@dataclasses.dataclass(frozen=True)
class Kind(Generic[Model]):
    """One kind of document.

    `model`: with the fields `type` and `schema_version`, whose defaults are what this harness
    reads.  `word`, `name`: what it is called, in short and in full.  `made_by`: which command
    makes one, a phrase; `anew`: what to do about another version, a phrase.
    """

    model: type[Model]
    word: str
    name: str
    made_by: str
    anew: str

    def text(self, document: Model) -> str:
        """The document as it is written."""
        return document.model_dump_json(indent=1) + "\n"

    def read(self, path: Path) -> Model:
        """Read a document.  Raises UsageProblem, in a sentence, for a file that is none."""
        try:
            raw = foreign.loads(foreign.read_bytes(path))
        except OSError as error:
            raise UsageProblem(
                say("document.unreadable", "The {word} {path} cannot be read: {error}.",
                    word=self.word, path=path, error=error.strerror)
            ) from error  # fmt: skip
        except ValueError as error:
            raise UsageProblem(
                say("document.not_json", "{path} is no {word}: it is not JSON ({error}).",
                    path=path, word=self.word, error=error)
            ) from error  # fmt: skip
        if not isinstance(raw, dict) or raw.get("type") != self._default("type"):
            raise UsageProblem(
                say("document.other", "{path} is no {name}: {made_by}.",
                    path=path, name=self.name, made_by=self.made_by)
            )  # fmt: skip
        if raw.get("schema_version") != (version := self._default("schema_version")):
            raise UsageProblem(
                say("document.version", "{path} has schema version {found}, this harness reads "
                    "{version}: {anew} with it.", path=path, found=repr(raw.get("schema_version")),
                    version=version, anew=self.anew)
            )  # fmt: skip
        try:
            return self.model.model_validate(raw)
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            said = re.sub("^Value error, ", "", first["msg"])
            raise UsageProblem(
                say("document.value", "{path}: {where}: {said}.", path=path, where=where, said=said)
            ) from error

    def write(self, document: Model, path: Path) -> None:
        """Write a document in one step.  Raises UsageProblem."""
        try:
            with files.replacing(path) as temporary:
                temporary.write_text(self.text(document), encoding="utf-8")
        except OSError as error:
            raise UsageProblem(
                f"Cannot write the {self.word} to {path} ({error.strerror}): give --output FILE."
            ) from error

    def _default(self, field: str) -> Any:
        return self.model.model_fields[field].default
