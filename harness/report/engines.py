"""A study of engines as Markdown: end to end, operators one by one, culprits, what was skipped."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterable

from harness.detection.study_results import EngineRow, EngineStudy, Kind, Operators
from harness.judgement.operator_rows import RATIO_LIMIT, SLICE_RATIO_LIMIT
from harness.report.tables.cells import Item, Table, tabulated
from harness.report.text import render_table
from harness.system.status import Status

OfKind = tuple[Operators, Kind]


def render(study: EngineStudy) -> str:
    """Everything that a study of engines shows, as one Markdown text."""
    found = [totals(study), operators(study), each(study), culprits(study), skipped(study)]
    blocks = [_title(study), *(render_table(table) for table in found if table.rows)]
    reasons = [f"{_place(row)}: {row.reason}" for row in study.rows if row.reason]
    for title, lines in (("Reasons", reasons), ("Not measured", study.problems)):
        if lines:
            blocks.append(f"{title}:\n\n" + "\n".join(f"- {text}" for text in lines))
    return "\n\n".join(blocks) + "\n"


def totals(study: EngineStudy) -> Table:
    """End to end, a row an engine and format."""
    return tabulated(
        "Models end to end",
        _grouped(study.rows, lambda row: (row.engine, row.format)),
        ("engine", lambda rows: rows[0].engine),
        ("format", lambda rows: rows[0].format),
        ("models", lambda rows: str(len(rows))),
        ("pass", lambda rows: str(sum(row.status is Status.PASS for row in rows))),
        ("inconclusive", lambda rows: str(sum(row.status is Status.INCONCLUSIVE for row in rows))),
        ("failed", lambda rows: str(sum(row.accused for row in rows))),
        ("median ratio", lambda rows: _median(row.ratio for row in rows)),
        ("greatest", lambda rows: _greatest(row.ratio for row in rows)),
        ("of an image", lambda rows: _greatest(row.image_ratio for row in rows)),
        ("of a slice", lambda rows: _greatest(row.slice_ratio for row in rows)),
        ("allowed", lambda rows: _greatest(row.limit for row in rows)),
    )


def operators(study: EngineStudy) -> Table:
    """Operators one by one, a row a kind and format, and one for all kinds."""
    flat = [one for one in _kinds(study) if one[1].compared]
    groups = [
        *(("all", rows) for rows in _grouped(flat, lambda one: (one[0].format,))),
        *((rows[0][1].operator, rows) for rows in _grouped(flat, _kind)),
    ]

    def greatest(engine: str) -> Callable[[tuple[str, list[OfKind]]], str]:
        def cell(group: tuple[str, list[OfKind]]) -> str:
            own = [kind for found, kind in group[1] if found.engine == engine]
            return (
                f"{_greatest(kind.ratio for kind in own)} / "
                f"{_greatest(kind.slice_ratio for kind in own)}"
            )

        return cell

    return tabulated(
        "Operators one by one: greatest ratio / of a slice (allowed: "
        f"{RATIO_LIMIT:g} / {SLICE_RATIO_LIMIT:g})",
        groups,
        ("operator", lambda group: group[0]),
        ("format", lambda group: group[1][0][0].format),
        ("compared", lambda group: str(sum(kind.compared for _, kind in group[1]))),
        ("culprits", lambda group: str(sum(kind.culprits for _, kind in group[1]))),
        *((engine, greatest(engine)) for engine in _engines(study.operators)),
    )


def each(study: EngineStudy) -> Table:
    """Every model end to end, engines side by side."""

    def numbers(engine: str) -> Callable[[list[EngineRow]], str]:
        def cell(rows: list[EngineRow]) -> str:
            taken = [
                " ".join(
                    (row.status.value, *map(_number, (row.ratio, row.image_ratio, row.slice_ratio)))
                )
                for row in rows
                if row.engine == engine
            ]
            return "; ".join(taken) or "not measured"

        return cell

    return tabulated(
        "Every model: status and greatest ratio, of an image, of a slice",
        _grouped(study.rows, lambda row: (row.format, row.model)),
        ("model", lambda rows: rows[0].model),
        ("format", lambda rows: rows[0].format),
        *((engine, numbers(engine)) for engine in _engines(study.rows)),
    )


def culprits(study: EngineStudy) -> Table:
    """Every operator beyond its limits."""
    return tabulated(
        "Culprits",
        [(found, row) for found in study.operators for row in found.culprits],
        ("where", lambda one: _place(one[0])),
        ("operator", lambda one: f"{one[1].operator} in {one[1].module} ({one[1].index})"),
        ("shapes", lambda one: " ".join(one[1].shapes)),
        ("ratio", lambda one: _number(one[1].ratio)),
        ("of a slice", lambda one: f"{one[1].worst_slice_ratio:.3g} ({one[1].worst_slice})"),
        ("error rms", lambda one: f"{one[1].own_rmse:.2g}"),
        ("result rms", lambda one: f"{one[1].reference_rms:.2g}"),
    )


def skipped(study: EngineStudy) -> Table:
    """What an engine does not take, with the first reason."""
    return tabulated(
        "Skipped operators",
        _grouped(
            [one for one in _kinds(study) if one[1].skipped],
            lambda one: (one[0].engine, *_kind(one)),
        ),
        ("engine", lambda rows: rows[0][0].engine),
        ("format", lambda rows: rows[0][0].format),
        ("operator", lambda rows: rows[0][1].operator),
        ("calls", lambda rows: str(sum(kind.skipped for _, kind in rows))),
        ("why", lambda rows: rows[0][1].why),
    )


def _kinds(study: EngineStudy) -> list[OfKind]:
    return [(found, kind) for found in study.operators for kind in found.kinds]


def _kind(one: OfKind) -> tuple[str, ...]:
    return one[0].format, one[1].operator


def _engines(rows: Iterable[EngineRow | Operators]) -> list[str]:
    return sorted({row.engine for row in rows})


def _place(row: EngineRow | Operators) -> str:
    return f"{row.engine}, {row.format}, {row.model}"


def _grouped(items: Iterable[Item], key: Callable[[Item], tuple[str, ...]]) -> list[list[Item]]:
    """Items of one key together, sorted by it."""
    return [list(group) for _, group in itertools.groupby(sorted(items, key=key), key)]


def _greatest(values: Iterable[float | None]) -> str:
    return _number(max((value for value in values if value is not None), default=None))


def _median(values: Iterable[float | None]) -> str:
    taken = [value for value in values if value is not None]
    return _number(statistics.median(taken) if taken else None)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"


def _title(study: EngineStudy) -> str:
    versions = ", ".join(
        f"{name} {study.environment[name]}"
        for name in ("torch", "timm")
        if name in study.environment
    )
    return (
        f"# Engines as the device\n\n{study.processor}, one thread; {versions}; {study.date}; "
        f"{study.seconds / 60:.0f} minutes."
    )
