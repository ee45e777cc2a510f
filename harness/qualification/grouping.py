"""Calls grouped by what they have in common, so that a cause is one line and not a hundred."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from harness.qualification.catalogue import Catalogue
from harness.qualification.outcomes import Outcome
from harness.qualification.signatures import Layout, parse

_EXAMPLES = 6  # models named in a line


@dataclasses.dataclass(frozen=True)
class Group:
    """Calls of one operator with one status.

    `cause`: "all 12 softmax whose last axis is 197 to 257"; `worst`: the id of the call that is
    furthest off, which `operators run --call` repeats; `models`: that make any of the calls.
    """

    operator: str
    status: str
    cause: str
    calls: tuple[str, ...]
    worst: str
    reason: str
    ratio: float | None
    models: tuple[str, ...]

    def lines(self, options: str) -> list[str]:
        """To read; `options`: of `operators run` (`Run.options`)."""
        more = len(self.models) - _EXAMPLES
        named = ", ".join(self.models[:_EXAMPLES]) + (f" and {more} more" if more > 0 else "")
        return [
            f"  {self.status}: {self.cause}",
            f"    worst {self.worst}: {self.reason}",
            f"    in {counted(len(self.models), 'model')}: {named}",
            f"    repeat it: {self.repeated(options)}",
        ]

    def repeated(self, options: str) -> str:
        """The command that repeats the worst call; `options`: as `lines`."""
        return f"python -m harness operators run --call {self.worst} {options} --scripts ."


def counted(count: int, what: str) -> str:
    """ "1 model", "2 models"."""
    return f"{count} {what}" + "s" * (count != 1)


def family(text: str) -> str:
    """What takes one kernel: operator and, for convolutions, their form."""
    signature = parse(text)
    name = signature.operator.removeprefix("aten::").partition(".")[0].rstrip("_")
    layouts = signature.layouts()
    if "convolution" not in name or len(layouts) < 2:
        return name
    groups = signature.args[8] if len(signature.args) > 8 else 1
    weight = layouts[1].shape
    form = "dense" if groups == 1 else "depthwise" if weight[1] == 1 else "grouped"
    return f"{name} {form} {'x'.join(map(str, weight[2:]))}"


def grouped(found: Iterable[Outcome], catalogue: Catalogue) -> tuple[Group, ...]:
    """Failing calls by kernel family and status, those in most models first."""
    by_kind: dict[tuple[str, str], list[Outcome]] = {}
    for item in found:
        by_kind.setdefault((family(item.signature), item.status.value), []).append(item)
    everything: dict[str, list[str]] = {}
    for name, text in catalogue.signatures.items():
        everything.setdefault(family(text), []).append(name)
    groups = []
    for (kind, status), items in by_kind.items():
        names = {item.id for item in items}
        others = [catalogue.signatures[name] for name in everything[kind] if name not in names]
        worst = max(items, key=lambda item: (item.worst_ratio or 0.0, item.id))
        models = sorted({model for name in names for model in catalogue.models_of[name]})
        groups.append(
            Group(
                operator=kind,
                status=status,
                cause=cause(kind, [item.signature for item in items], others),
                calls=tuple(sorted(names)),
                worst=worst.id,
                reason=worst.reason,
                ratio=worst.worst_ratio,
                models=tuple(models),
            )
        )
    return tuple(sorted(groups, key=lambda group: (-len(group.models), group.operator)))


def cause(kind: str, bad: Sequence[str], good: Sequence[str]) -> str:
    """What tells the bad calls of a kind from its good ones, in words.

    A single property of their shapes that all bad ones have and no good one: a range of one axis,
    or a remainder that is not 0; else their number alone.
    """
    count = f"{len(bad)} of {len(bad) + len(good)} {kind}"
    if not good:
        return f"all {len(bad)} {kind}"
    for name, of in _AXES:
        ours, theirs = ({_size(text, of) for text in texts} for texts in (bad, good))
        if None in ours:
            continue
        low, high = min(ours), max(ours)  # type: ignore[type-var]
        if not any(size is not None and low <= size <= high for size in theirs):  # type: ignore[operator]
            reach = str(low) if low == high else f"{low} to {high}"
            return f"all {len(bad)} {kind} whose {name} is {reach}"
        for modulus in (512, 128, 64, 32, 16, 8):
            off = all(size % modulus for size in ours)  # type: ignore[operator]
            if off and not any(size is not None and size % modulus for size in theirs):
                return f"all {len(bad)} {kind} whose {name} is no multiple of {modulus}"
    return count


def _last(layout: Layout) -> int | None:
    return layout.shape[-1] if layout.shape else None


def _channels(layout: Layout) -> int | None:
    return layout.shape[1] if len(layout.shape) > 1 else None


def _first(layout: Layout) -> int | None:
    return layout.shape[0] if layout.shape else None


_AXES = (("last axis", _last), ("second axis", _channels), ("first axis", _first))


def _size(text: str, of: object) -> int | None:
    layouts = parse(text).layouts()
    assert callable(of)
    found: int | None = of(layouts[0]) if layouts else None
    return found
