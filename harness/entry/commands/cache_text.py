"""What `python -m harness cache` prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from harness.execution.reference.entries import CacheEntry
from harness.judgement.arithmetic import Arithmetic
from harness.report.tables.cells import Table
from harness.report.text import render_table

_WHAT = {"model": "preprocessing", "prepared": "prepared files", "partial": "cut short"}


def render_list(entries: Sequence[CacheEntry], directory: Path, limit: int) -> str:
    """A table of all entries, the longest unused first, and their sum against the limit."""
    total = f"{amount(entries)} of {_size(limit)} allowed in {directory}"
    if not entries:
        return total
    header = (
        "entry", "what", "model", "dtype", "arithmetic", "batch", "inputs", "made with", "size",
        "last used (UTC)",
    )  # fmt: skip
    table = Table("Reference cache", header, tuple(_row(entry) for entry in entries))
    return f"{render_table(table)}\n{total}"


def render_check(
    checked: int,
    damaged: Sequence[tuple[CacheEntry, str]],
    *,
    deleted: bool = False,
    asked: str = "",
) -> str:
    """One line for each damaged entry, with why, and the sum; `asked`: options of the command."""
    lines = [f"{entry.path}: {problem}" for entry, problem in damaged]
    if not damaged:
        return f"{checked} entries, all sound."
    end = "removed" if deleted else f"`python -m harness cache verify --delete{asked}` removes them"
    return "\n".join([*lines, f"{checked} entries, {len(damaged)} damaged: {end}."])


def amount(entries: Iterable[CacheEntry]) -> str:
    """ "3 entries, 12.5 MB"."""
    sizes = [entry.size for entry in entries]
    return f"{len(sizes)} entries, {_size(sum(sizes))}"


def _row(entry: CacheEntry) -> tuple[str, ...]:
    # The variant stood in the leg where another version wrote the entry.
    leg = {**entry.key.get("leg", {}), **entry.key.get("variant", {})}
    software = entry.key.get("software", {})
    made_with = ", ".join(f"{name} {software[name]}" for name in ("torch", "timm") if software)
    return (
        entry.path.stem[:12],
        _what(entry, leg),
        str(entry.facts.get("model", "")),
        str(leg.get("dtype", "float32" if entry.kind == "inputs" else "")),
        _arithmetic(leg),
        str(leg.get("batch_size", "")),
        _inputs(entry),
        made_with,
        _size(entry.size),
        f"{entry.used:%Y-%m-%d %H:%M}",
    )


def _what(entry: CacheEntry, leg: dict[str, Any]) -> str:
    if entry.kind != "leg":
        return _WHAT.get(entry.kind, entry.kind)
    if not leg:
        return "unreadable"
    if leg["dtype"] == "float64":
        return "oracle"
    return "budget" if leg["imitate"] or leg["reorder"] else "reference"


def _arithmetic(leg: dict[str, Any]) -> str:
    if not leg:
        return ""
    if leg["imitate"]:
        return str(Arithmetic.of_json(leg["imitate"]))
    return f"{leg['dtype']}, other order" if leg["reorder"] else str(leg["dtype"])


def _inputs(entry: CacheEntry) -> str:
    if shape := entry.facts.get("shape"):
        return " x ".join(map(str, shape))
    return str(entry.facts.get("inputs", ""))


def _size(size: int) -> str:
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f} {unit}" if unit != "B" else f"{size} B"
