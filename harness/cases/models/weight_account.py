"""Accounts for weights: what was loaded, and what did not fit."""

from __future__ import annotations

import dataclasses

Shape = tuple[int, ...]


def show_shape(shape: Shape) -> str:
    """Return a shape as text, e.g. 1000x1280."""
    return "x".join(str(size) for size in shape) or "scalar"


def show_first(names: list[str], count: int = 3) -> str:
    """Return the first `count` names, with dots when there are more."""
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


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
            f"{name} {show_shape(file)} in the file, {show_shape(model)} in the model"
            for name, file, model in self.mismatched
            if name not in excused
        ]
        values = [f"{name} ({count} values)" for name, count in self.nonfinite]
        phrases = (
            ("missing in the file", missing),
            ("unknown to the model", unexpected),
            ("of another shape", shapes),
            ("with NaN or infinite values", values),
        )
        return tuple(
            f"{len(found)} {what} ({show_first(found)})" for what, found in phrases if found
        )

    @property
    def idle_patterns(self) -> str:
        """A phrase on `idle`."""
        return f"to be allowed, but the name of no weight: {show_first(list(self.idle))}"

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
