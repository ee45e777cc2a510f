"""What the first card said: an archive of JSON to send back.  No torch here."""

from __future__ import annotations

import datetime
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pydantic

from harness.records.fingerprint import Fingerprint
from harness.records.lines import CaseRecord
from harness.system import anonymous, files
from harness.system.status import UsageProblem

_EPOCH = (1980, 1, 1, 0, 0, 0)  # of every entry: a clock says where it runs
# What tells one card, and one host, from another.
_OWN = ("uuid", "total_memory_bytes", "log_tail", "memory")


class CardProbe(pydantic.BaseModel):
    """One question: what was expected, by which public source, and what was seen.

    `numbers`: what `seen` was made of; `problem`: why it was not asked, else "".
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
    name: str
    expected: str
    source: str
    seen: str = ""
    numbers: dict[str, list[float]] = {}
    problem: str = ""


class Card(pydantic.BaseModel):
    """All questions but the fingerprint and the cases, which have files of their own."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
    type: Literal["first-card"] = "first-card"
    schema_version: Literal[1] = 1
    taken: datetime.datetime
    emulated: bool
    means: str  # what the results are evidence of
    probes: list[CardProbe]


def write(path: Path, card: Card, fingerprint: Fingerprint, cases: Sequence[CaseRecord]) -> None:
    """Write the archive, free of names and paths.  Raises UsageProblem where it cannot be."""
    hidden = anonymous.names()
    documents = {
        "card.json": card.model_dump(mode="json"),
        "fingerprint.json": fingerprint.model_dump(mode="json"),
        "cases.json": [case.model_dump(mode="json") for case in cases],
    }
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, document in documents.items():
            content = json.dumps(anonymous.anonymous(_without_own(document), hidden), indent=1)
            if found := anonymous.left(content, hidden):
                raise UsageProblem(
                    f"The archive would still hold {found[0]!r}, a name or a path of this host, in "
                    f"{name}: nothing was written."
                )
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content)
    try:
        with files.replacing(path) as temporary:
            temporary.write_bytes(made.getvalue())
    except OSError as error:
        raise UsageProblem(
            f"Cannot write the archive to {path} ({error.strerror}): give --output FILE."
        ) from error


def _without_own(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_own(item) for key, item in value.items() if key not in _OWN}
    return list(map(_without_own, value)) if isinstance(value, list) else value
