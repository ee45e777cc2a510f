"""A pre-check of versions as tables: what differs between them, and what is wrong with each."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.tables.cells import Table, caveat, mark
from harness.upgrade.precheck import check
from harness.upgrade.precheck.check import Checked


def tables(found: Sequence[Checked]) -> list[Table]:
    """The overview, then every item in which the versions that were tried differ."""
    return [table for table in (overview(found), wrong(found), differences(found)) if table.rows]


def overview(found: Sequence[Checked]) -> Table:
    """One row a version."""
    needed = check.needed_operators()
    rows = []
    for item in found:
        if item.unavailable:
            rows.append((item.version, "could not be tried", *[""] * 4, "not tried"))
            continue
        ran = sum(not model.problem for model in item.models.values())
        rows.append(
            (
                item.version,
                "no" if item.problem else "yes",
                f"{item.versions.get('torch', 'unknown')}, {item.versions.get('timm', 'unknown')}",
                f"{len(item.missing_attributes)} missing" if not item.problem else "not tried",
                f"{ran} of {len(item.models)} run" if not item.problem else "not tried",
                f"{len(needed & item.operators)} of {len(needed)} ran"
                if not item.problem
                else "not tried",
                str(len(item.failures)) if item.failures else "nothing",
            )
        )
    header = (
        *("torch_npu", "loads", "torch, timm", "attributes", "architectures"),
        *("operators of the catalogue", "what is wrong"),
    )
    return Table(mark("Pre-check on the emulated NPU", True), header, tuple(rows))


def wrong(found: Sequence[Checked]) -> Table:
    """A row for everything that is wrong, and for every version that could not be tried."""
    rows = [
        (item.version, text)
        for item in found
        for text in (item.failures or ([item.unavailable] if item.unavailable else []))
    ]
    return Table(
        mark("What is wrong, or why it could not be tried", True),
        ("torch_npu", "what"),
        tuple(rows),
    )


def differences(found: Sequence[Checked]) -> Table:
    """Items that are not the same in all versions that load."""
    tried = [item for item in found if not item.unavailable and not item.problem]
    items = [_items(item) for item in tried]
    names = list(dict.fromkeys(name for item in items for name in item))
    rows = []
    for name in names:
        cells = [item.get(name, "absent") for item in items]
        if len(set(cells)) > 1:
            rows.append((name, *cells))
    header = ("item", *(item.version for item in tried))
    return Table(mark("Differences between the versions that load", True), header, tuple(rows))


def line(found: Sequence[Checked]) -> str:
    """The pre-check in one line."""
    bad = [item.version for item in found if item.failures]
    unknown = [item.version for item in found if item.unavailable]
    fine = [item.version for item in found if not item.failures and not item.unavailable]
    parts = [
        f"{word}: {', '.join(versions)}"
        for word, versions in (("fine", fine), ("not fine", bad), ("could not be tried", unknown))
        if versions
    ]
    return f"Pre-check, {'; '.join(parts)}{caveat(True)}"


def _items(item: Checked) -> dict[str, str]:
    """Everything that may differ, by name."""
    found = dict(item.versions) | dict(item.attributes)
    for name, model in item.models.items():
        if model.problem:
            found[name] = model.problem
            continue
        word = "agrees" if model.agrees else f"error {model.error:.1e}"
        calls = ", ".join(f"{key} {count}" for key, count in sorted(model.operators.items()))
        found[name] = f"{word}: {calls}"
    absent = check.needed_operators() - item.operators
    found["operators of the catalogue that did not run"] = ", ".join(sorted(absent)) or "none"
    found["operators on the CPU instead"] = ", ".join(item.fallbacks) or "none"
    return found
