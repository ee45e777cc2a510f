"""The survey's table: which operators of CANN each architecture executes, and with which timm."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_name("coverage.json")


def architectures() -> dict[str, dict[str, Any]]:
    """Architecture -> input size, dtypes, operators and their number."""
    table: dict[str, dict[str, Any]] = json.loads(PATH.read_text(encoding="utf-8"))["architectures"]
    return table


def timm() -> str:
    """The timm that the operators were counted with: others build some models otherwise."""
    return str(json.loads(PATH.read_text(encoding="utf-8"))["timm"])


def write(table: Mapping[str, Mapping[str, Any]], timm: str) -> None:
    """Replace the file; one line an architecture."""
    rows = [f"    {json.dumps(name)}: {json.dumps(table[name])}" for name in sorted(table)]
    PATH.write_text(
        f'{{\n  "timm": {json.dumps(timm)},\n  "architectures": {{\n'
        + ",\n".join(rows)
        + "\n  }\n}\n",
        encoding="utf-8",
    )
