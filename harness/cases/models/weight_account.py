"""Accounts for weights: what was loaded, and what did not fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from harness.cases.models.directory import fail
from harness.system.messages import listed, say

Shape = tuple[int, ...]


def show_shape(shape: Shape) -> str:
    """Return a shape as text, e.g. 1000x1280."""
    return "x".join(str(size) for size in shape) or "scalar"


def show_first(names: Sequence[str], count: int = 3) -> str:
    """Return the first `count` names or phrases, with dots when there are more."""
    return listed([*names[:count], *["..."] * (len(names) > count)])


# Buffers of BatchNorm that training counts; torch's own strict load does without.
UNREAD = ".num_batches_tracked"


@dataclasses.dataclass(frozen=True)
class WeightAccount:
    """What a weights file and a model made of each other.

    `mismatched` holds (name, shape in file, shape in model), `nonfinite` (name, number of NaN or
    infinite values).  `allowed` lists the keys among them that were excused by name: a missing
    or mis-shaped one keeps the model's own initial value.  `idle`: patterns that were to excuse
    keys and are the name of none.  `notes` says what was converted.
    """

    loaded: int
    expected: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[tuple[str, Shape, Shape], ...] = ()
    nonfinite: tuple[tuple[str, int], ...] = ()
    allowed: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """One phrase per kind of trouble that is not allowed; empty when the load is good."""
        excused = set(self.allowed)
        missing = [name for name in self.missing if name not in excused]
        unexpected = [name for name in self.unexpected if name not in excused]
        shapes = [
            say(
                "weights.shape",
                "{name} {file} in the file, {model} in the model",
                name=name,
                file=show_shape(file),
                model=show_shape(model),
            )
            for name, file, model in self.mismatched
            if name not in excused
        ]
        values = [
            say("weights.values", "{name} ({count} values)", name=name, count=count)
            for name, count in self.nonfinite
        ]
        phrases = (
            (say("weights.missing", "missing in the file"), missing),
            (say("weights.unknown", "unknown to the model"), unexpected),
            (say("weights.other_shape", "of another shape"), shapes),
            (say("weights.nonfinite", "with NaN or infinite values"), values),
        )
        return tuple(
            say(
                "weights.trouble",
                "{count} {what} ({names})",
                count=len(found),
                what=what,
                names=show_first(found),
            )
            for what, found in phrases
            if found
        )

    @property
    def idle_patterns(self) -> str:
        """A phrase on `idle`."""
        return say(
            "weights.idle",
            "to be allowed, but the name of no weight: {names}",
            names=show_first(list(self.idle)),
        )

    def summary(self) -> str:
        """One line for tables and logs."""
        parts = [f"{self.loaded} of {self.expected} tensors loaded", *self.problems]
        if self.allowed:
            parts.append(f"{len(self.allowed)} allowed ({show_first(list(self.allowed))})")
        if self.idle:
            parts.append(self.idle_patterns)
        return "; ".join([*parts, *self.notes])


def wrong_prefix(account: WeightAccount) -> str:
    """What the keys of a file have more than the model's, or less; "" where it is not that."""
    file, model = (
        {name for name in names if not name.endswith(UNREAD)}
        for names in (account.unexpected, account.missing)
    )
    if account.loaded or not file or not model:
        return ""
    for longer, shorter in ((file, model), (model, file)):
        one = max(longer, key=len)
        for short in shorter:
            prefix = one.removesuffix(short)
            if prefix != one and prefix.endswith("."):
                matched = {name.removeprefix(prefix) for name in longer if name.startswith(prefix)}
                if 2 * len(matched & shorter) > len(shorter):
                    return prefix
    return ""


def check(account: WeightAccount, path: Path, num_classes: int, asked: str) -> None:
    """Raise CaseProblem (fail_load) unless all weights fit.

    `num_classes`: of the model, and `asked` what says so.
    """
    if not account.problems:
        return
    if account.nonfinite:
        name, count = account.nonfinite[0]
        raise fail(
            "load.nonfinite",
            "{path} has NaN or infinite values in {tensors} tensors, the first is {name} "
            "with {count}: restore the file from the model's source.",
            path=path,
            tensors=len(account.nonfinite),
            name=name,
            count=count,
        )
    in_file = _classes_in_file(account, num_classes)
    if in_file is not None and len(account.problems) == 1:
        raise fail(
            "load.classes",
            "The classifier in {path} has {in_file} classes but {asked} says {num_classes}: set "
            "num_classes to {in_file}, or use the weights that belong to {num_classes}.",
            path=path,
            in_file=in_file,
            asked=asked,
            num_classes=num_classes,
        )
    said = say(
        "load.loaded",
        "{path} does not fit the model: of {expected} tensors {loaded} loaded",
        path=path,
        expected=account.expected,
        loaded=account.loaded,
    )
    if prefix := wrong_prefix(account):
        raise fail(
            "load.prefix",
            "{said}, since keys differ by the prefix {prefix!r}: it was saved from a wrapper or a "
            "part of the model; save the state_dict() of the timm model itself.",
            said=said,
            prefix=prefix,
        )
    # With most of them missing, whoever allows them by name tests random weights.
    most = 2 * account.loaded > account.expected
    raise fail(
        "load.misfit",
        "{said}, {problems}: use the weights that belong to this config.json{allow}{idle}.",
        said=said,
        problems=listed(account.problems),
        allow=say("load.allow", ", or allow these keys by name") if most else "",
        idle=say("in_brackets", " ({text})", text=account.idle_patterns) if account.idle else "",
    )


def _classes_in_file(account: WeightAccount, num_classes: int) -> int | None:
    """The file's number of classes when mis-shaped tensors differ in exactly that, else None."""
    excused = set(account.allowed)
    found = set()
    for name, file, model in account.mismatched:
        if name in excused:
            continue
        same_rest = len(file) == len(model) and file[1:] == model[1:]
        if not (same_rest and model[:1] == (num_classes,)):
            return None
        found.add(file[0])
    return found.pop() if len(found) == 1 else None
