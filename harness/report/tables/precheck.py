"""A pre-check of versions as tables: what differs between them, and what is wrong with each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from harness.report.tables.cells import Table, caveat, mark
from harness.upgrade.precheck import check
from harness.upgrade.precheck.bisect import Bisection
from harness.upgrade.precheck.check import Checked, Model

_SHOWN = 6  # outputs of a model in one cell


def tables(found: Sequence[Checked]) -> list[Table]:
    """The overview, then every item in which the versions that were tried differ."""
    return [table for table in (overview(found), wrong(found), differences(found)) if table.rows]


def overview(found: Sequence[Checked]) -> Table:
    """One row a version."""
    needed = check.needed_operators()
    rows = []
    for item in found:
        if item.unavailable:
            rows.append((item.version, "could not be tried", *[""] * 5, "not tried"))
            continue
        ran = sum(not model.problem for model in item.models.values())
        rows.append(
            (
                item.version,
                "no" if item.problem else "yes",
                item.note or "this environment",
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
        *("torch_npu", "loads", "where", "torch, timm", "attributes", "architectures"),
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
    tried = _tried(found)
    items = [_items(item) | _names(item, tried[0]) | _outputs(item, tried) for item in tried]
    names = list(dict.fromkeys(name for item in items for name in item))
    rows = []
    for name in names:
        cells = [item.get(name, "absent") for item in items]
        if len(set(cells)) > 1:
            rows.append((name, *cells))
    header = ("item", *(item.version for item in tried))
    return Table(mark("Differences between the versions that load", True), header, tuple(rows))


def changes(found: Sequence[Checked]) -> str:
    """What each version that loads does otherwise than the first of them, a sentence each."""
    tried = _tried(found)
    said = []
    for item in tried[1:]:
        pairs = (
            (name, _changed(tried[0].models.get(name), new)) for name, new in item.models.items()
        )
        own = [f"{name} {text}" for name, text in pairs if text]
        said.append(
            f"{item.version} beside {tried[0].version}: "
            + ("; ".join(own) or "the same operators, as often")
            + "."
        )
    return "\n".join(said)


def bisection(found: Bisection) -> str:
    """The first version that fails, or why there is none, with what was tried."""
    lines = [
        f"{item.version}: {'; '.join(item.failures) or item.unavailable or 'right'}"
        for item in found.tried
    ]
    return "\n".join([*lines, found.sentence + caveat(True)])


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


def _tried(found: Sequence[Checked]) -> list[Checked]:
    return [item for item in found if not item.unavailable and not item.problem]


def _changed(old: Model | None, new: Model) -> str:
    """ "calls InplaceCopy 3 where Cast 3 was"; "" when nothing changed."""
    if old is None or old.problem or new.problem:
        return ""
    came = Counter(new.operators) - Counter(old.operators)
    went = Counter(old.operators) - Counter(new.operators)
    if came and went:
        return f"calls {_calls(came)} where {_calls(went)} was"
    return (
        f"also calls {_calls(came)}" if came else f"no longer calls {_calls(went)}" if went else ""
    )


def _calls(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _names(item: Checked, first: Checked) -> dict[str, str]:
    """Public names of torch_npu.npu: how many, and what came and went since the first version."""
    came, gone = set(item.names) - set(first.names), set(first.names) - set(item.names)
    parts = [f"{len(item.names)} names"]
    parts += [f"came: {', '.join(sorted(came))}"] if came else []
    parts += [f"gone: {', '.join(sorted(gone))}"] if gone else []
    return {"torch_npu.npu": "; ".join(parts)}


def _outputs(item: Checked, tried: Sequence[Checked]) -> dict[str, str]:
    """Per model the outputs (operator, dtype, shape) that not all versions write as often."""
    found = {}
    for name, model in item.models.items():
        all_of = [other.models[name].outputs for other in tried if name in other.models]
        texts = {text for outputs in all_of for text in outputs}
        differ = {t for t in texts if len({outputs.get(t, 0) for outputs in all_of}) > 1}
        own = sorted(f"{text} {model.outputs[text]}" for text in differ & model.outputs.keys())
        more = f" and {len(own) - _SHOWN} more" if len(own) > _SHOWN else ""
        if differ:
            found[f"{name}: outputs that differ"] = (", ".join(own[:_SHOWN]) or "none") + more
    return found


def _items(item: Checked) -> dict[str, str]:
    """Everything that may differ, by name."""
    found = dict(item.versions) | dict(item.attributes)
    found |= {f"option {name}": value for name, value in item.options.items()}
    for name, model in item.models.items():
        if model.problem:
            found[name] = model.problem
            continue
        word = "agrees" if model.agrees else f"error {model.error:.1e}"
        calls = ", ".join(f"{key} {count}" for key, count in sorted(model.operators.items()))
        found[name] = f"{word}: {calls}"
        if len(model.formats) > 1:
            wrong_in = ", ".join(f"{dtype}: error {e:.1e}" for dtype, e in model.half.items())
            found[f"{name} in {', '.join(model.formats[1:])}"] = wrong_in or "agrees"
    absent = check.needed_operators() - item.operators
    found["operators of the catalogue that did not run"] = ", ".join(sorted(absent)) or "none"
    found["operators on the CPU instead"] = ", ".join(item.fallbacks) or "none"
    return found
