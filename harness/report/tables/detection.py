"""What a case could have seen: the planted faults and which verdict let them through."""

from __future__ import annotations

from harness.records.lines import CaseRecord
from harness.report.tables.cells import Table, label
from harness.system import messages
from harness.system.messages import say


def table(case: CaseRecord) -> Table | None:
    """Which planted faults the protocol's gate and this harness let through."""
    found = case.sensitivity
    if found is None or not found.rows:
        return None
    word = {True: "PASSED", False: "failed", None: "does not apply"}
    return Table(
        label(case, f"Planted faults, {found.means}"),
        ("fault", "where", "protocol's gate", "this harness", "budget ratio"),
        tuple(
            (
                f"{row.fault}, {row.depth}",
                row.place,
                word[row.gate_passed] if row.effective else "no effect",
                ("PASSED" if row.missed else row.status.value) if row.effective else "no effect",
                "not a number" if row.ratio is None else f"{row.ratio:.3g}",
            )
            for row in found.rows
        ),
    )


def line(case: CaseRecord) -> str | None:
    """Detection power in one sentence."""
    found = case.sensitivity
    if found is None:
        return None
    if found.problem:
        why = messages.beside(found.problem, found.problem_messages)
        return label(case, say("detection.none", "Detection power not measured: {why}", why=why))
    text = (
        f"Detection power: of {found.effective} faults that changed the outputs "
        f"({found.means}) the protocol's gate passed {found.missed_by_gate}, this harness "
        f"{found.missed} ({found.inconclusive} inconclusive); "
    )
    if found.weight_error is None:
        text += "no relative error of one weight up to 1 is caught."
    else:
        text += (
            f"one weight wrong by {found.weight_error:.2g} (relative) is caught "
            f"({found.weight_place})."
        )
    return label(case, text)
