"""What tables are made of: the table itself, and how a number or a missing one stands in a cell."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from harness.devices.spec import CAVEAT
from harness.judgement.documented import DocumentedGate
from harness.judgement.operator_rows import OperatorRow
from harness.records.lines import CaseRecord
from harness.system.messages import Said, say

EMULATED = "EMULATED"
NOT_MEASURED = "not measured"
MINUTE = "%Y-%m-%d %H:%M UTC"


@dataclasses.dataclass(frozen=True)
class Table:
    """A titled table; every row has as many cells as the header."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"{self.title}: row {row} does not fit header {self.header}")


Item = TypeVar("Item")


def tabulated(
    title: str, items: Iterable[Item], *columns: tuple[str, Callable[[Item], str]]
) -> Table:
    """A row an item; each column is its heading and how it shows an item, so none can slip."""
    rows = (tuple(show(item) for _, show in columns) for item in items)
    return Table(title, tuple(heading for heading, _ in columns), tuple(rows))


def fixed(value: float, places: int) -> str:
    """Format with `places` decimals, as documented; a value that this would show as zero, or a
    cosine that it would show as one, keeps its digits: 0.000000 for a real error is untrue."""
    if not math.isfinite(value):
        return str(value)
    text = f"{value:.{places}f}"
    if value != 0 and float(text) == 0:
        return f"{value:.2e}"
    return text


def cosine(value: float) -> str:
    """Format a cosine with six decimals; one that differs from 1 but rounds to it says so."""
    text = f"{value:.6f}"
    # Below 1e-12 it is the rounding of the cosine's own float64 sums.
    if text == "1.000000" and value < 1.0 - 1e-12:
        return f"1.000000 (1 - {1.0 - value:.1e})"
    return text


def ratio(value: float | None) -> str:
    """Format a budget ratio with three digits; None: it was not measured."""
    return NOT_MEASURED if value is None else f"{value:.3g}"


def quotient(value: float) -> str:
    """Format a quotient with three digits; NaN: there was nothing to divide."""
    return "none" if math.isnan(value) else f"{value:.3g}"


def share(value: float, places: int = 2, *, sign: bool = False) -> str:
    """Format a share as percent, "12.50 %"; `sign`: of a difference."""
    return f"{100 * value:{'+' * sign}.{places}f} %"


def error_rate(percent: float | None) -> str:
    """Format an error rate as documented; None: it was not measured."""
    return NOT_MEASURED if percent is None else f"{fixed(percent, 4)} %"


def gate_error_rate(gate: DocumentedGate | None) -> str:
    """The error rate of a protocol's gate."""
    return error_rate(gate.error_rate_percent if gate is not None else None)


def gate_top1(gate: DocumentedGate | None) -> str:
    """Images with the same Top-1 of all images, "6/6"."""
    return NOT_MEASURED if gate is None else f"{gate.top1_matches}/{gate.images}"


def mark(text: str, emulated: bool) -> str:
    """Add EMULATED to a text that is about an emulated device."""
    if not emulated:
        return text
    if isinstance(text, Said):
        return say("emulated", "{text} [{word}]", text=text, word=EMULATED)
    return f"{text} [{EMULATED}]"


def caveat(emulated: bool) -> str:
    """What has to stand behind a line about an emulated device; "" for a real one."""
    return CAVEAT * emulated


def label(case: CaseRecord, text: str) -> str:
    """Add EMULATED to a title wherever the case's device was emulated."""
    return mark(text, case.emulated)


def device_word(case: CaseRecord) -> str:
    """What the device's columns are called: NPU as documented, else the kind of device."""
    kind = case.candidate.device.kind if case.candidate else "npu"
    return "NPU" if kind.startswith("npu") else kind.upper()


def culprit(row: OperatorRow) -> str:
    """A culprit in a cell, with what CANN's published method says of it."""
    return "CULPRIT" + (f", {row.method.verdict}" if row.method is not None else "")


def first(names: Sequence[str], shown: int = 20) -> str:
    """Names in a line; of more than are shown, how many there are."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")
