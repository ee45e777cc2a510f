"""Where weights, inputs and settings came from, and what both sides were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.records.lines import CaseRecord, RunRecord
from harness.report.tables.cells import MINUTE, Table, label


def table(case: CaseRecord) -> Table:
    """Where weights, inputs and settings came from."""
    rows = [
        ("weights", case.weights or "not loaded"),
        ("weights sha256", case.weights_sha256 or "not loaded"),
        ("inputs", case.inputs or "not prepared"),
        ("inputs sha256", case.inputs_sha256 or "not prepared"),
    ]
    rows += _side_rows(case)
    if case.candidate is not None:
        fallback = ", ".join(case.candidate.fallback_operators) or "none"
        rows.append(("operators that ran on the CPU instead", fallback))
        rows.append(("operators", pairs({k: str(v) for k, v in case.candidate.operators.items()})))
    return Table("Provenance", ("item", "value"), tuple(rows))


def sides(cases: Sequence[CaseRecord]) -> Table:
    """Both sides of the run, as the first case that reached the device saw them."""
    reached = next((case for case in cases if case.candidate is not None), cases[0])
    return Table(label(reached, "Devices"), ("item", "value"), tuple(_side_rows(reached)))


def hardware(run: RunRecord | None, cases: Sequence[CaseRecord]) -> dict[str, str]:
    """Card, CPU, CANN and driver of a run, as its first case that reached the device saw them."""
    reached = next((case for case in cases if case.candidate is not None), None)
    if reached is None or reached.candidate is None:
        return {}
    card = reached.candidate.device
    found = {"card": f"{card.shown} ({card.spec})"}
    if reached.reference is not None:
        cpu = reached.reference.device
        found["CPU"] = f"{cpu.name}, {cpu.details.get('threads', '?')} threads"
    if card.kind.startswith("npu"):
        found["CANN"] = card.details.get("cann", "not recorded")
        driver = run.environment.get("driver") if run is not None else None
        found["driver"] = "none: the NPU is EMULATED" if card.emulated else driver or "not recorded"
    return found


def _side_rows(case: CaseRecord) -> list[tuple[str, str]]:
    rows = []
    for side, leg in (("CPU", case.reference), ("device", case.candidate)):
        if leg is None:
            rows.append((side, "did not run"))
            continue
        device = leg.device
        rows.append((side, f"{device.shown} ({device.spec})"))
        rows.append((f"{side} numerics, read back", pairs(settings(leg.numerics))))
        rows.append((f"{side} details", pairs(device.details) or "none"))
        if leg.timing.cached_since is not None:
            made = f"{leg.timing.cached_since:{MINUTE}}"
            rows.append((f"{side} answers", f"from the reference cache, made {made}"))
        if device.uuid:
            rows.append((f"{side} uuid", device.uuid))
    return rows


def settings(numerics: Mapping[str, str]) -> dict[str, str]:
    """Numerics to show: of the operators that a policy of casts names, how many."""
    return {
        name: f"{len(value.split())} operators" if name.startswith("autocast.") else value
        for name, value in numerics.items()
    }


def pairs(values: Mapping[str, str]) -> str:
    """Names with their values, in a line."""
    return ", ".join(f"{name}={value}" for name, value in values.items())
