"""The fingerprint of a device's arithmetic as tables and lines."""

from __future__ import annotations

from collections.abc import Sequence

from harness.records.fingerprint import Fingerprint
from harness.records.fingerprint_changes import Change, Difference
from harness.report.tables import cells
from harness.report.tables.cells import Table

# Every operator has them: in a line of their own.
_REPEATS = ("repeats", "bits")


def tables(found: Fingerprint) -> list[Table]:
    """What was seen; then the elementary functions."""
    return [table for table in (_traits(found), _functions(found)) if table.rows]


def _traits(found: Fingerprint) -> Table:
    """A row a value, with the formats that have it."""
    formats: dict[tuple[str, str, str], list[str]] = {}
    for name, one in found.formats.items():
        for operator, traits in one.traits.items():
            for trait, value in traits.items():
                if trait not in _REPEATS:
                    formats.setdefault((operator, trait, value), []).append(name)
    operators = list(dict.fromkeys(operator for operator, _, _ in formats))
    rows = sorted(formats.items(), key=lambda row: operators.index(row[0][0]))
    return Table(
        _title(found, "Arithmetic, by crafted inputs"),
        ("operator", "trait", "seen", "formats"),
        tuple((*key, _formats(names, found)) for key, names in rows),
    )


def _functions(found: Fingerprint) -> Table:
    rows: dict[tuple[str, str, str, str], list[str]] = {}
    for name, one in found.formats.items():
        for function, seen in one.functions.items():
            key = (function, seen.form, f"{seen.worst_ulp:.3g}", f"{seen.at:.6g}")
            rows.setdefault(key, []).append(name)
    return Table(
        _title(found, "Functions: worst error in units in the last place"),
        ("function", "form", "worst error", "at", "formats"),
        tuple((*key, _formats(names, found)) for key, names in sorted(rows.items())),
    )


def _formats(names: Sequence[str], found: Fingerprint) -> str:
    return "all" if len(names) == len(found.formats) > 1 else ", ".join(names)


def lines(found: Fingerprint, unpublished: Sequence[str]) -> list[str]:
    """What does not repeat itself, was not asked or is published nowhere; and the conclusion."""
    said = []
    for name, one in found.formats.items():
        repeated = {op: seen["repeats"] for op, seen in one.traits.items() if "repeats" in seen}
        other = [op for op, text in repeated.items() if not text.startswith("the same")]
        if repeated:
            said.append(
                f"{name}: {len(repeated) - len(other)} of {len(repeated)} reductions give the same "
                "bits every time" + (f", not: {', '.join(other)}" if other else "")
            )
    for name, one in found.formats.items():
        said += [f"{name}: not asked: {problem}" for problem in one.problems]
    said += [f"published nowhere: {text}" for text in unpublished]
    end = f"{len(unpublished)} traits match no published form" if unpublished else (
        "all that is published of such devices is as published"
    )  # fmt: skip
    said.append(f"Fingerprint of {found.device.spec}: {end}.{cells.caveat(found.emulated)}")
    return said


def differences(found: Sequence[Difference], *, emulated: bool) -> Table:
    """What differs between two fingerprints, but for other bits of the same form."""
    shown = [one for one in found if one.change is not Change.BITS]
    return Table(
        cells.mark("Arithmetic: what differs", emulated),
        ("format", "operator", "trait", "old", "new", "change"),
        tuple(
            (one.format, one.operator, one.trait, one.old, one.new, one.change.value)
            for one in shown
        ),
    )


def other_bits(found: Sequence[Difference]) -> str:
    """The operators whose results differ in bits alone; "" for none."""
    names = dict.fromkeys(one.operator for one in found if one.change is Change.BITS)
    return f"Other bits, same form: {cells.first(list(names))}." if names else ""


def _title(found: Fingerprint, text: str) -> str:
    return cells.mark(f"{text}: {found.device.spec}, {found.device.name}", found.emulated)
