"""The tables of docs/detection.md: measured part by part, and written there.

    python -m benchmarks.detection [--folder reports/detection] [--parts faults,kernels,...]

A part is a command of its own with results in the folder; what is there already is read, not
measured again (kernels and architectures go on where they were cut short).  The document keeps
its text: only what stands between `<!-- table NAME -->` and `<!-- end -->` is replaced.  All of it
is EMULATED; hours on two cores.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import harness  # noqa: F401  (before torch)
from benchmarks import kernels, measured, own_cost
from harness.cases import architectures
from harness.detection import study_results
from harness.records import results_file
from harness.records.lines import CaseRecord
from harness.report import study as study_report
from harness.report import text
from harness.system.status import Status, UsageProblem

DOCUMENT = measured.ROOT / "docs" / "detection.md"
_MODELS = ("test_vit", "test_resnet")
# Whole cases on CPUs: a family whose smallest model takes more is left out, and counted as such.
_MOST_MACS = 12 * 10**9
_ARCHITECTURES = 112
_OF_FAMILY = 4
_RANGES = "operator", "models", "rms", "greatest", "spread", "nearly linear in"


def chosen(count: int = _ARCHITECTURES) -> list[str]:
    """The smallest architecture of each family, then the next three of each, the smallest first."""
    _, table = architectures.table()
    small = [(row.macs, row) for row in table.values() if row.macs and row.macs <= _MOST_MACS]
    families: dict[str, list[str]] = {}
    ranked: list[tuple[bool, int, str]] = []
    for macs, row in sorted(small, key=lambda one: one[0]):
        of_family = families.setdefault(row.family, [])
        further, tiny = bool(of_family), row.name.startswith("test_")  # of a few layers
        if len(of_family) < _OF_FAMILY and not (further and tiny):
            ranked.append((further, macs, row.name))
        of_family.append(row.name)
    return [name for _, _, name in sorted(ranked)[:count]]


def _faults(folder: Path) -> None:
    if not _studies(folder):
        _command("-m", "harness", "study", "--settings", "C,D", "--seeds", "1",
                 "--output", str(folder / "faults"))  # fmt: skip


def _kernels(folder: Path) -> None:
    _command("-m", "benchmarks.kernels", "--kernels", "broken", "--usual",
             "--models", ",".join(_MODELS), "--output", str(folder / "kernels.jsonl"))  # fmt: skip


def _architectures(folder: Path) -> None:
    cases = folder / "architectures.toml"
    cases.write_text(
        "\n".join(
            own_cost.case_text(name) + 'numerics = ["strict", "default"]\n' for name in chosen()
        ),
        encoding="utf-8",
    )
    results = folder / "architectures"
    _command("-m", "harness", "run", "--device", "npu-emulated", "--case-file", str(cases),
             "--results", str(results), *(["--resume"] if results.is_dir() else []))  # fmt: skip


def _command(*arguments: str) -> None:
    # A study that failed an honest device, or a run with a failed case, has its table all the same.
    subprocess.run(measured.python(*arguments), cwd=measured.ROOT, check=False)


PARTS: Mapping[str, Callable[[Path], None]] = {
    "faults": _faults,
    "kernels": _kernels,
    "architectures": _architectures,
}


def _studies(folder: Path) -> list[Path]:
    return sorted(folder.glob("faults*/study.json"))


def _study(folder: Path) -> study_results.Study:
    return study_results.join(
        [study_results.load(path, study_results.Study) for path in _studies(folder)]
    )


def faults(folder: Path) -> str:
    """Planted faults, what each verdict let through, and honest runs beside them."""
    study = _study(folder)
    tables = (study_report.totals(study), study_report.honest_totals(study))
    return "\n\n".join(map(text.render_table, tables))


def broken(folder: Path) -> str:
    """Broken kernels: how many were caught, with which culprit, and which were not."""
    rows = list(kernels.read(folder / "kernels.jsonl").values())
    if not rows:
        raise UsageProblem("no kernels.jsonl in the folder")
    return kernels.summary(rows).rstrip()


def _records(folder: Path) -> list[CaseRecord]:
    return list(results_file.read_run(folder / "architectures").cases)


def ratios(folder: Path) -> str:
    """Budget ratios of whole cases on the honest device, by numerics."""
    _, table = architectures.table()
    rows = []
    records = _records(folder)
    for numerics in dict.fromkeys(record.case.numerics for record in records):
        some = [record for record in records if record.case.numerics == numerics]
        found = [record.budget_ratio for record in some if record.budget_ratio is not None]
        families = {table[record.case.model.ref].family for record in some}
        limits = {row.limit for record in some for row in record.budgets}
        others = Counter(record.status.value for record in some if record.status is not Status.PASS)
        quarters = statistics.quantiles(found, n=4)
        rows.append(
            (numerics, str(len(some)), str(len(families)), f"{min(found):.2f}",
             f"{quarters[1]:.2f}", f"{quarters[2]:.2f}", f"{max(found):.2f}",
             ", ".join(f"{limit:g}" for limit in sorted(limits)),
             ", ".join(f"{count} {status}" for status, count in others.items()) or "none")
        )  # fmt: skip
    header = ("numerics", "cases", "families", "least", "median", "three quarters", "greatest",
              "allowed", "not passed")  # fmt: skip
    return f"**Budget ratios of whole cases [EMULATED]**\n\n{measured.table(header, rows)}"


def ranges(folder: Path) -> str:
    """What nonlinear operators got, over the models that have them: medians and the widest."""
    kinds: dict[str, list[tuple[float, float, float | None, bool]]] = {}
    for record in _records(folder):
        if record.case.numerics == "strict" and record.reference is not None:
            for one in record.reference.ranges:
                seen = (one.rms, one.largest, one.spread, one.nearly_linear)
                kinds.setdefault(one.operator, []).append(seen)
    rows = [
        (kind, str(len(seen)), _median(one[0] for one in seen), _median(one[1] for one in seen),
         _median(one[2] for one in seen if one[2] is not None), str(sum(one[3] for one in seen)))
        for kind, seen in sorted(kinds.items(), key=lambda item: -len(item[1]))
    ]  # fmt: skip
    return (
        "**Inputs of nonlinear operators, medians over the models**\n\n"
        f"{measured.table(_RANGES, rows)}"
    )


def _median(values: Iterable[float]) -> str:
    found = list(values)
    return f"{statistics.median(found):.2f}" if found else ""


TABLES: Mapping[str, Callable[[Path], str]] = {
    "faults": faults,
    "broken": broken,
    "ratios": ratios,
    "ranges": ranges,
}
_MARKED = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(document: str, tables: Mapping[str, str]) -> str:
    """The document with these tables between their marks; others stay.

    Raises KeyError for a table that the document does not have.
    """
    places = [match[2] for match in _MARKED.finditer(document)]
    if lost := [name for name in tables if name not in places]:
        raise KeyError(lost[0])

    def put(match: re.Match[str]) -> str:
        found = tables.get(match[2])
        return match[0] if found is None else f"{match[1]}\n{found}\n\n{match[3]}"

    return _MARKED.sub(put, document)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing, write the tables; 0, or 4 for a part that does not exist."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("reports/detection"), metavar="DIR")
    parser.add_argument(
        "--parts",
        default=",".join(PARTS),
        metavar="A,B,...",
        help="what to measure; empty: nothing",
    )
    given = parser.parse_args(arguments)
    given.folder.mkdir(parents=True, exist_ok=True)
    for part in filter(None, given.parts.split(",")):
        if part not in PARTS:
            raise UsageProblem(f"Unknown part {part!r}: give {', '.join(PARTS)}.")
        PARTS[part](given.folder.resolve())
    tables = {}
    for name, make in TABLES.items():
        try:
            tables[name] = make(given.folder)
        except (OSError, UsageProblem, IndexError) as error:
            print(f"{name}: not measured ({error})", file=sys.stderr)
    DOCUMENT.write_text(fill(DOCUMENT.read_text(encoding="utf-8"), tables), encoding="utf-8")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UsageProblem as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(4)
