"""A study as Markdown: totals, every fault with both verdicts, two histograms."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from harness.detection.study_results import FaultResult, HonestRow, Study
from harness.report.tables.cells import Table, mark
from harness.report.text import render_table
from harness.system.status import Status

_BAR = 40  # characters of the longest bar
_FEWEST, _MOST = -1.0, 6.0  # decades of the histograms; the outer bins are open


def render(study: Study) -> str:
    """Everything that a study shows, as one Markdown text."""
    blocks = [
        _title(study),
        render_table(totals(study)),
        render_table(honest_totals(study)),
        *(f"```\n{text}\n```" for text in histograms(study)),
        render_table(missed(study)),
        *(render_table(table) for table in fault_tables(study)),
    ]
    if study.problems:
        blocks.append("Not measured:\n\n" + "\n".join(f"- {text}" for text in study.problems))
    return "\n\n".join(blocks) + "\n"


def totals(study: Study) -> Table:
    """Effective faults and how many each verdict missed, by format and setting."""
    rows = []
    caught = {_identity(r) for r in study.faults if r.format == "strict" and _caught(r)}
    for name in study.formats:
        of_format = [result for result in study.faults if result.format == name]
        groups = [(key, [r for r in of_format if r.setting == key]) for key in study.settings]
        for setting, results in [*groups, ("all", of_format)]:
            if results:
                rows.append((name, setting, *_counts(results, caught)))
    header = (
        *("format", "setting", "planted", "effective", "gate missed", "harness missed"),
        *("of these caught in strict", "inconclusive", "missed, %", "not caught, %"),
    )
    return Table(_label(study, "Faults that passed"), header, tuple(rows))


def honest_totals(study: Study) -> Table:
    """Runs without a fault: none may fail."""
    rows = []
    for name in study.formats:
        for setting in study.settings:
            found = [r for r in study.honest if (r.format, r.setting) == (name, setting)]
            if found:
                rows.append((name, setting, *_honest_counts(found)))
    header = (
        *("format", "setting", "honest runs", "false alarms", "inconclusive"),
        *("failed by the gate", "greatest ratio", "allowed"),
    )
    return Table(_label(study, "Honest runs"), header, tuple(rows))


def missed(study: Study) -> Table:
    """Every effective fault that this harness let through: setting, depth, budget ratio."""
    cells: dict[str, dict[str, list[str]]] = {}
    for result in study.faults:
        row = result.row
        if row.missed:
            by_format = cells.setdefault(row.fault, {})
            text = f"{result.setting} {row.depth} {_number(row.ratio)}"
            by_format.setdefault(result.format, []).append(text)
    rows = tuple(
        (fault, *("; ".join(by_format.get(name, ())) for name in study.formats))
        for fault, by_format in cells.items()
    )
    title = "Effective faults that this harness passed: setting, depth, budget ratio"
    return Table(_label(study, title), ("fault", *study.formats), rows)


def fault_tables(study: Study) -> list[Table]:
    """One table a format: every fault, and in each setting gate / harness / budget ratio."""
    found = []
    for name in study.formats:
        cells: dict[tuple[str, str], dict[str, str]] = {}
        for result in study.faults:
            if result.format == name:
                key = (result.row.fault, result.row.depth)
                text = _verdicts(result)
                before = cells.setdefault(key, {}).get(result.setting)
                cells[key][result.setting] = f"{before}; {text}" if before else text
        header = ("fault", "where", *study.settings)
        rows = tuple(
            (fault, depth, *(by_setting.get(setting, "") for setting in study.settings))
            for (fault, depth), by_setting in cells.items()
        )
        title = f"Faults, {name}: protocol's gate / this harness / budget ratio"
        found.append(Table(_label(study, title), header, rows))
    return found


def histograms(study: Study) -> list[str]:
    """Budget ratios of honest runs and of effective faults, log scale, by kind of limit."""
    found = []
    for title, wanted in (("exact float32", True), ("HF32, float16, bfloat16", False)):
        names = [name for name in study.formats if (name == "strict") is wanted]
        honest = [r.ratio for r in study.honest if r.format in names]
        faults = [r.row.ratio for r in study.faults if r.format in names and r.row.effective]
        limits = {r.limit for r in study.honest if r.format in names and r.limit}
        if honest or faults:
            allowed = ", ".join(f"{limit:g}" for limit in sorted(limits))
            text = _label(study, f"Budget ratios, {title} (allowed: {allowed})")
            found.append("\n".join([text, *histogram(honest, faults)]))
    return found


def histogram(honest: Iterable[float | None], faults: Iterable[float | None]) -> list[str]:
    """Two histograms side by side, half a decade a line; None counts as "not a number"."""
    count = round(2 * (_MOST - _FEWEST))
    edges = [10 ** (_FEWEST + index / 2) for index in range(count + 1)]
    names = [f"< {edges[0]:.3g}"]
    names += [f"{low:.3g} .. {high:.3g}" for low, high in zip(edges, edges[1:], strict=False)]
    names += [f">= {edges[-1]:.3g}", "not a number"]

    def counted(values: Iterable[float | None]) -> list[int]:
        bins = [0] * len(names)
        for value in values:
            if value is None or not math.isfinite(value):
                bins[-1] += 1
            else:
                bins[sum(value >= edge for edge in edges)] += 1
        return bins

    left, right = counted(honest), counted(faults)
    scale = max(*left, *right, 1)
    lines = [f"{'ratio':>18}  {'honest':<{_BAR + 6}}faults"]
    for name, one, other in zip(names, left, right, strict=True):
        lines.append(f"{name:>18}  {_bar(one, scale):<{_BAR + 6}}{_bar(other, scale)}".rstrip())
    return lines


def _bar(count: int, scale: int) -> str:
    return f"{'#' * math.ceil(_BAR * count / scale)} {count}" if count else ""


def _identity(result: FaultResult) -> tuple[str, ...]:
    """What is the same fault in another format."""
    row = result.row
    return result.setting, result.model, row.fault, row.depth, row.place


def _caught(result: FaultResult) -> bool:
    row = result.row
    return row.effective and not row.missed and not row.inconclusive


def _counts(results: Sequence[FaultResult], in_strict: set[tuple[str, ...]]) -> tuple[str, ...]:
    rows = [result.row for result in results]
    also = sum(result.row.missed and _identity(result) in in_strict for result in results)
    effective = sum(row.effective for row in rows)
    ours = sum(row.missed for row in rows)
    inconclusive = sum(row.inconclusive for row in rows)
    # An inconclusive case is not accepted, but nobody has found the fault either: both are shown.
    shares = [
        f"{100 * count / effective:.1f}" if effective else "none effective"
        for count in (ours, ours + inconclusive)
    ]
    return (
        str(len(rows)),
        str(effective),
        str(sum(row.missed_by_gate for row in rows)),
        str(ours),
        str(also),
        str(inconclusive),
        *shares,
    )


def _honest_counts(rows: Sequence[HonestRow]) -> tuple[str, ...]:
    ratios = [row.ratio for row in rows if row.ratio is not None]
    limits = {row.limit for row in rows if row.limit is not None}
    return (
        str(len(rows)),
        str(sum(row.false_alarm for row in rows)),
        str(sum(row.status is Status.INCONCLUSIVE for row in rows)),
        str(sum(row.gate_passed is False for row in rows)),
        _number(max(ratios, default=None)),
        ", ".join(f"{limit:g}" for limit in sorted(limits)),
    )


def _verdicts(result: FaultResult) -> str:
    row = result.row
    if not row.effective:
        return "no effect"
    gate = {True: "PASS", False: "fail", None: "none"}[row.gate_passed]
    ours = "PASS" if row.missed else row.status.value
    return f"{gate} / {ours} / {_number(row.ratio)}"


def _number(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.2g}"


def _label(study: Study, text: str) -> str:
    return mark(text, study.emulated)


def _title(study: Study) -> str:
    settings = "\n".join(f"- {name}: {text}" for name, text in study.settings.items())
    versions = ", ".join(
        f"{k} {study.environment[k]}"
        for k in ("torch", "timm", "torch_npu")
        if k in study.environment
    )
    title = _label(study, f"# Study on {study.device}")
    return f"{title}\n\n{settings}\n\n{versions}; {study.seconds / 60:.0f} minutes."
