"""Files of expected results: `<directory>/<device kind>/<numerics profile>.toml`, a row a case.

TOML, with each row an inline table on one line, rather than CSV: a row has fields that most rows
lack (reason, link, tolerance), texts that want no quoting rules, and comments may stand between
the rows; a change of one case is still a change of one line.  Files are edited line by line, so
that comments and the other rows stay as people wrote them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import pydantic

from harness.records.expectation import ExpectedRow
from harness.system import files, foreign, suggestions, toml
from harness.system.status import Status, UsageProblem
from harness.system.toml import tomllib

# How the file's own keys are ordered in a row.
_ORDER = tuple(ExpectedRow.model_fields)
_HEAD_KEYS = ("device", "numerics", "kernels", "case")
_STATUSES = tuple(status.value for status in Status if status is not Status.SKIP)
_ROW = re.compile(r"""^\s*(?P<quote>["'])(?P<id>.*?)(?P=quote)\s*=""")
_HEAD = """\
# Expected results of {device}, numerics profile {numerics}.{emulated}
# One row a case.  `--update-expected` writes rows; docs/gating.md explains them.
device = "{device}"
numerics = "{numerics}"{kernels}

[case]
"""
_EMULATED = "\n# EMULATED: results of the CANN emulator, no evidence about NPU hardware."


def path_of(directory: Path, device: str, numerics: str) -> Path:
    """Where the rows of a device kind ("npu-emulated") and a numerics profile are kept."""
    return directory / device / f"{numerics}.toml"


def read(
    path: Path,
    device: str,
    numerics: str,
    known_ids: Collection[str] | None = None,
    kernels: str | None = None,
) -> dict[str, ExpectedRow]:
    """Read a file: case id -> row.

    `known_ids`: ids that a row may have; None: any.  `kernels`: of an emulated device, as the file
    names them.  Raises UsageProblem with line and column for a file that is not TOML, is of another
    device, profile or kernels, or holds an unknown key, case or value.
    """
    text = _text(path)
    try:
        document = toml.loads(text)
    except foreign.TooDeep as error:
        raise UsageProblem(f"{path}: {error}.") from None
    except tomllib.TOMLDecodeError as error:
        # tomllib's message ends in "(at line L, column C)".
        match = re.fullmatch(r"(.*) \(at (line \d+, column \d+|end of document)\)", str(error))
        what, where = match.groups() if match else (str(error), "")
        if not where or where.startswith("end"):
            where = f"line {text.count(chr(10)) + 1}, column 1"
        raise _problem(path, where, f"{what}, so it is not valid TOML") from error
    for key, wanted in (("device", device), ("numerics", numerics), ("kernels", kernels)):
        if document.get(key) != wanted:
            what = f"{key} must be {json.dumps(wanted)}, found {json.dumps(document.get(key))}"
            raise _problem(path, _place(text, None, key), what)
    for key in document:
        if key not in _HEAD_KEYS:
            what = f"unknown key {key!r}{_near(key, _HEAD_KEYS)}"
            raise _problem(path, _place(text, None, key), what)
    raw = document.get("case", {})
    if not isinstance(raw, dict):
        raise _problem(path, _place(text, None, "case"), "case must be a table, [case]")
    return {case_id: _row(path, text, case_id, value, known_ids) for case_id, value in raw.items()}


def write(
    path: Path,
    device: str,
    numerics: str,
    rows: Mapping[str, ExpectedRow],
    kernels: str | None = None,
    gone: Collection[str] = (),
) -> None:
    """Replace or add these rows; the rest of the file stays as it is, new rows go in by id.

    `gone`: ids whose rows are taken out.  Raises UsageProblem when the file cannot be read or
    written.
    """
    if path.exists():
        read(path, device, numerics, kernels=kernels)
        lines = [
            line
            for line in _text(path).splitlines()
            if not ((match := _ROW.match(line)) and match["id"] in gone)
        ]
    else:
        emulated = _EMULATED if device.endswith("-emulated") else ""
        named = f'\nkernels = "{kernels}"' if kernels is not None else ""
        head = _HEAD.format(device=device, numerics=numerics, emulated=emulated, kernels=named)
        lines = head.splitlines()
    for case_id, row in sorted(rows.items()):
        _place_line(lines, case_id, format_row(case_id, row))
    try:
        with files.replacing(path) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageProblem(
            f"Expected results {path} cannot be written ({error.strerror}): nothing was updated."
        ) from error


def format_row(case_id: str, row: ExpectedRow) -> str:
    """One line of the file."""
    values = row.model_dump(mode="python", exclude_defaults=True)
    cells = (f"{key} = {_toml(values[key])}" for key in _ORDER if values.get(key) is not None)
    return f"{json.dumps(case_id)} = {{ {', '.join(cells)} }}"


def _row(
    path: Path, text: str, case_id: str, value: Any, known_ids: Collection[str] | None
) -> ExpectedRow:
    if _line_of(text, case_id) is None:
        what = f'the row of case {case_id!r} must be one line, "id" = {{ key = value, ... }}'
        raise _problem(path, _find(text, case_id), what)
    if known_ids is not None and case_id not in known_ids:
        near = _near(case_id, known_ids)
        what = f"no case of the case files has the id {case_id!r}{near}"
        raise _problem(path, _place(text, case_id), f"{what}: correct or remove the row")
    status = value.get("status")
    if status in _STATUSES:
        value = value | {"status": Status(status)}
    elif status is not None:
        what = f"status must be one of {', '.join(_STATUSES)}, not {json.dumps(status)}"
        raise _problem(path, _place(text, case_id, "status"), f"case {case_id}: {what}")
    try:
        return ExpectedRow.model_validate(value, strict=True)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else None
        what = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            what = f"unknown key {key!r}{_near(str(key), _ORDER)}"
        elif first["type"] == "missing":
            what = f"{key!r} is missing"
            key = None
        elif key is not None:
            what = f"{key}: {what}"
        raise _problem(path, _place(text, case_id, key), f"case {case_id}: {what}") from error


def _place(text: str, case_id: str | None, key: str | None = None) -> str:
    """Line and column of a key, in the row of `case_id` or at the top of the file."""
    lines = text.splitlines()
    if case_id is None:
        for number, line in enumerate(lines, start=1):
            if match := re.match(rf"""\s*\[?\[?["']?({re.escape(str(key))})\b""", line):
                return f"line {number}, column {match.start(1) + 1}"
        return "line 1, column 1"
    index = _line_of(text, case_id)
    if index is None:
        return _find(text, case_id)
    line = lines[index]
    head = _ROW.match(line)
    assert head is not None
    column = head.start("quote")
    if key is not None:
        quoted = rf"""["']?{re.escape(key)}["']?\s*="""
        if match := re.compile(rf"[{{,]\s*({quoted})").search(line, head.end()):
            column = match.start(1)
    return f"line {index + 1}, column {column + 1}"


def _find(text: str, case_id: str) -> str:
    """Where an id stands as a key of any form."""
    for number, line in enumerate(text.splitlines(), start=1):
        if match := re.search(rf"""["'.]({re.escape(case_id)})["'\]]""", line):
            return f"line {number}, column {match.start(1) + 1}"
    return "line 1, column 1"


def _line_of(text: str, case_id: str) -> int | None:
    """Index of the line that holds the whole row of a case; None when no line does."""
    for index, line in enumerate(text.splitlines()):
        match = _ROW.match(line)
        if match and match["id"] == case_id:
            return index if line[match.end() :].lstrip().startswith("{") else None
    return None


def _place_line(lines: list[str], case_id: str, row: str) -> None:
    """Replace the row of a case, or insert it before the first row with a greater id."""
    ids = [(i, match["id"]) for i, line in enumerate(lines) if (match := _ROW.match(line))]
    for index, other in ids:
        if other == case_id:
            lines[index] = row
            return
    after = [index for index, other in ids if other > case_id]
    lines.insert(after[0] if after else len(lines), row)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        text = f"{value:.3g}"
        return text if set(text) & set(".en") else f"{text}.0"
    if isinstance(value, str):
        # A JSON string is a TOML string but for DEL, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(getattr(value, "value", value))


def _text(path: Path) -> str:
    try:
        return foreign.read_text(path)
    except OSError as error:
        raise UsageProblem(f"Expected results {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        column = error.start - (error.object.rfind(b"\n", 0, error.start) + 1) + 1
        raise _problem(path, f"line {line}, column {column}", "not UTF-8 text") from error


def _near(word: str, known: Iterable[str]) -> str:
    near = suggestions.near(word, known, 1)
    return f" (did you mean {near!r}?)" if near else ""


def _problem(path: Path, where: str, what: str) -> UsageProblem:
    return UsageProblem(f"Expected results {path}, {where}: {what}.")
