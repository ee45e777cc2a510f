"""The decision on an upgrade as tables: what decides, then what each part found."""

from __future__ import annotations

from harness.report.tables import cells, fingerprint, operators, precheck, support, two_runs
from harness.report.tables.cells import Table
from harness.upgrade.decision import Decision, Part


def parts(found: Decision) -> Table:
    """A row a kind of evidence, with the exit code that it calls for."""
    return Table(
        cells.mark("What decides", found.emulated),
        ("part", "exit code", "what it says"),
        tuple((part.name, code(part), part.said) for part in found.parts),
    )


def code(part: Part) -> str:
    """The exit code that a part calls for, in words where there is none."""
    return "not there" if part.code is None else f"{int(part.code)}"


def sections(found: Decision) -> list[tuple[str, list[Table], bool]]:
    """Heading, tables that are not empty, and whether a reader is shown them at once."""
    calls = found.operators
    listed: list[tuple[str, list[Table], bool]] = [
        ("Failing calls", [operators.groups(calls, known=False)], True),
        ("Changed calls", [operators.changes(calls)], True),
        ("Cases", two_runs.tables(found.cases) if found.cases else [], True),
        ("Operators by format", [operators.matrix(calls)], True),
        ("Arithmetic", [fingerprint.differences(found.arithmetic, emulated=found.emulated)], True),
        ("Support", [support.overview(found.support)], False),
        ("Pre-check", precheck.tables(found.precheck), False),
        ("Known failures", [operators.groups(calls, known=True)], False),
        ("Not judged", [operators.unjudged(calls)], False),
        *((f"Models, {one.results.run.dtype} ({one.results.run.numerics})",
           [operators.models(one)], False) for one in calls),
    ]  # fmt: skip
    full = ((name, [t for t in tables if t.rows], shown) for name, tables, shown in listed)
    return [(name, tables, shown) for name, tables, shown in full if tables]


def contradictions(found: Decision) -> list[str]:
    """A line a model whose calls are all qualified and that fails as a whole."""
    return [f"Fails as a whole with all calls qualified: {one}" for one in found.contradicted]
