"""What timm's validate.py writes with --results-file, and timm publishes: a row a model, as CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path

import pydantic

from harness.system import foreign, suggestions
from harness.system.status import UsageProblem

_WANTED = ("model", "top1", "top5", "img_size", "crop_pct", "interpolation")


@dataclasses.dataclass(frozen=True)
class Published:
    """One row; accuracy in percent, `img_size` in pixels, other columns are left out."""

    model: str
    top1: float
    top5: float
    img_size: int
    crop_pct: float
    interpolation: str

    def __post_init__(self) -> None:
        if not (0 <= self.top1 <= self.top5 <= 100):
            raise ValueError(f"top1 {self.top1} and top5 {self.top5} are no percentages")


_ROW = pydantic.TypeAdapter(Published)


def read(path: Path) -> list[Published]:
    """Read the rows.  Raises UsageProblem for a file that is none, or a row without accuracy."""
    form = "give what timm's validate.py writes with --results-file (CSV)"
    rows = []
    try:
        reader = csv.DictReader(io.StringIO(foreign.read_text(path)), strict=True)
        if lacking := [name for name in _WANTED if name not in (reader.fieldnames or ())]:
            failed = "error" in (reader.fieldnames or ())
            why = "holds a validation that failed" if failed else f"lacks {', '.join(lacking)}"
            raise UsageProblem(f"{path} {why}: {form}.")
        for row in reader:
            try:
                rows.append(_ROW.validate_python({name: row[name] for name in _WANTED}))
            except pydantic.ValidationError as error:
                first = error.errors()[0]
                where = ".".join(map(str, first["loc"])) or "accuracy"
                raise UsageProblem(
                    f"{path}, line {reader.line_num}: {where}: {first['msg']}."
                ) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise UsageProblem(f"{path} cannot be read ({said}): {form}.") from error
    if not rows:
        raise UsageProblem(f"{path} has no row: {form}.")
    return rows


def choose(rows: list[Published], wanted: str | None, architecture: str) -> Published:
    """The row of a model: the one called `wanted`, else by its architecture, with or without tag.

    Raises UsageProblem where none or several fit.
    """
    names = (wanted,) if wanted is not None else (architecture, architecture.partition(".")[0])
    for name in names:
        found = [row for row in rows if row.model == name]
        if len(found) == 1:
            return found[0]
        if found:
            raise UsageProblem(f"There are {len(found)} rows called {name}: keep one of them.")
    near = suggestions.near(names[0], (row.model for row in rows))
    hint = f"; did you mean {near}?" if near else "."
    raise UsageProblem(f"No row is called {names[0]}: give --row with one of the file's{hint}")
