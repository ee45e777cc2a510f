"""The plots of the HTML report, one function each; what they show stands in tables as well.

To add one: a function that returns `figures.render` of a figure, and its place in `html.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.judgement.budget import OutputBudget
from harness.judgement.localization import Localization
from harness.judgement.operator_rows import OperatorRow
from harness.judgement.verdict import OutputNumbers
from harness.records.lines import CaseRecord
from harness.records.throughput import BatchTiming, Throughput
from harness.report.html import figures
from harness.report.html.figures import AMBER, BLUE, GREEN, INK, RED
from harness.report.tables import cells
from harness.report.tables.cells import label
from harness.report.tables.throughput import _word
from harness.upgrade.history import HistoryEntry

_NAMED = 3  # culprits with their name in the plot
_CASES = 30  # of the overview
_TRENDS = 8  # cases with a line of their own
_OUTPUTS = 3  # with a row of their own


def error_over_depth(found: Localization, name: str, *, copy: str = "") -> Markup:
    """Own and inherited error of every operator and their budgets, relative, over the depth.

    Errors are divided by the root mean square of the reference's result.  No error at all is
    drawn at the lower edge, an infinite one at the upper.  `name`: of the case; `copy`: see
    `figures.render`.
    """
    title = f"Error over depth of {name}: {found.conclusion()}"
    return figures.render(lambda: _errors(found), title, copy=copy)


def budgets(cases: Sequence[CaseRecord]) -> Markup | None:
    """The cases nearest to their limit or beyond it, all images of each; None without numbers.

    Every ratio is divided by what it is allowed to be, so that one line is the limit of all.
    """
    measured = sorted((case for case in cases if case.budgets), key=_share, reverse=True)
    if not measured:
        return None
    shown = measured[:_CASES]
    over = sum(not _share(case) <= 1 for case in measured)
    title = (
        f"Error against the budget of {len(measured)} cases: {over} beyond the limit"
        + cells.caveat(any(case.emulated for case in measured))
    )
    return figures.render(lambda: _budgets(shown, len(measured)), title)


def agreement(case: CaseRecord, *, copy: str = "") -> Markup | None:
    """Device against CPU, their difference, and each image's budget ratio, for every output.

    None where the outputs were not compared.
    """
    judged = {row.name: row for row in case.budgets}
    shown = [out for out in case.outputs if out.sample is not None or out.name in judged]
    if not shown:
        return None
    word = cells.device_word(case)
    title = cells.label(case, f"Outputs of {case.case_id}: {word} against CPU, budget ratios")
    rows = [(out, judged.get(out.name)) for out in shown[:_OUTPUTS]]
    return figures.render(lambda: _agreement(rows, word), title, copy=copy)


def trend(found: Sequence[HistoryEntry]) -> Markup | None:
    """Budget ratio of every run of each case, oldest run first; None for fewer than two runs.

    The cases whose ratio changed most have names.
    """
    runs = list(dict.fromkeys(entry.run_id for entry in found))
    lines: dict[str, list[tuple[int, float]]] = {}
    for entry in found:
        if entry.budget_ratio is not None:
            place = runs.index(entry.run_id)
            lines.setdefault(entry.case_id, []).append((place, entry.budget_ratio))
    if len(runs) < 2 or not lines:
        return None
    title = f"Budget ratios of {len(lines)} cases over {len(runs)} runs" + cells.caveat(
        any(entry.emulated for entry in found)
    )
    stamps = {entry.run_id: f"{entry.time:%Y-%m-%d %H:%M}" for entry in found}
    return figures.render(lambda: _trend(lines, [stamps[run] for run in runs]), title)


def throughput_by_batch(
    found: Throughput, words: tuple[str, str], name: str, *, emulated: bool, copy: str = ""
) -> Markup:
    """Images a second, and percentiles of the latency, over the batch size.

    `words`: what CPU and device are called.  Bars are 95 % intervals.  The throughput of an
    emulated device is not drawn: it is no figure of merit.  `copy`: see `figures.render`.
    """
    title = f"Throughput and latency by batch size of {name}"
    return figures.render(lambda: _speeds(found, words, emulated), title, copy=copy)


def _speeds(found: Throughput, words: tuple[str, str], emulated: bool) -> Figure:
    figure = figures.canvas(3.4)
    speed, latency = figure.subplots(1, 2)
    rows = sorted(found.rows, key=lambda row: row.batch_size)
    sides = (
        (words[0], BLUE, [row.cpu for row in rows], True),
        (words[1], AMBER, [row.device for row in rows], not emulated),
    )
    for word, colour, measured, drawn in sides:
        timings = [timing for timing in measured if timing is not None]
        if not timings:
            continue
        across = [timing.batch_size for timing in timings]
        if drawn:
            height = [timing.images_per_second for timing in timings]
            speed.errorbar(
                across, height, _reach(timings), fmt="o-", capsize=3, color=colour, label=word
            )
        for key, line in (("p50", "-"), ("p95", "--"), ("p99", ":")):
            values = [getattr(timing.wall, key) for timing in timings]
            points = [1e3 * value if value is not None else math.nan for value in values]
            if not all(map(math.isnan, points)):
                latency.plot(across, points, f"o{line}", color=colour, label=f"{word}, {key}")
    for axes, text in ((speed, "images/s"), (latency, "latency [ms]")):
        axes.set_xscale("log", base=2)
        batches = [row.batch_size for row in rows]
        axes.set_xticks(batches, [str(batch) for batch in batches], minor=False)
        axes.set_xlabel("batch size")
        axes.set_ylabel(text)
        axes.legend()
    speed.set_ylim(bottom=0)
    latency.set_yscale("log")
    return figure


def _reach(timings: Sequence[BatchTiming]) -> tuple[list[float], list[float]]:
    """Lengths of the bars below and above; none where there is no interval."""
    below, above = [], []
    for timing in timings:
        value = timing.images_per_second
        low, high = timing.images_per_second_interval or (value, value)
        below.append(value - low)
        above.append(high - value)
    return below, above


def _errors(found: Localization) -> Figure:
    rows = [row for row in found.rows if row.reference_rms > 0]
    # Own errors stand alone, inherited ones follow from each other.
    series = (
        ("own error", _own, AMBER, 3.0, "-", True),
        ("own budget", lambda row: row.budget_rmse, AMBER, 0.9, "-", True),
        ("inherited error", lambda row: row.inherited_rmse, BLUE, 1.4, "-", False),
        ("inherited budget", lambda row: row.inherited_budget_rmse, BLUE, 1.2, ":", False),
    )
    relative = [[_relative(row, value) for row in rows] for _, value, *_ in series]
    low, high = figures.decades((v for values in relative for v in values), (1e-8, 1e-6))
    figure = figures.canvas(3.6, right=1.7)
    figure.subplots_adjust(top=0.96 - 0.06 * min(_NAMED, len(found.culprits)))
    axes = figure.add_subplot()
    calls = [row.index for row in rows]
    for (text, _, colour, width, style, apart), values in zip(series, relative, strict=True):
        across: list[float] = [*calls]
        height = figures.clamp(values, low, high)
        if apart:  # one path of short strokes: a marker for each would make the page heavy
            stroke = max(0.4, calls[-1] / 500)
            across = [x for call in calls for x in (call - stroke, call + stroke, math.nan)]
            height = [y for value in height for y in (value, value, math.nan)]
        axes.plot(across, height, style, label=text, color=colour, linewidth=width)
    for number, row in enumerate(found.culprits):
        axes.plot(
            [row.index],
            figures.clamp([_relative(row, _own)], low, high),
            "X",
            color=RED,
            markersize=10,
            zorder=5,
        )
        if number < _NAMED:
            axes.axvline(row.index, color=RED, linewidth=0.8)
            axes.text(
                row.index,
                1.02 + 0.07 * number,
                figures.name(row.module),
                transform=axes.get_xaxis_transform(),
                ha="right" if row.index > calls[-1] / 2 else "left",
                color=RED,
            )
    axes.set_yscale("log", subs=[])
    axes.set_ylim(low / 2, high * 4)
    axes.set_xlabel("operator, in the order of execution")
    axes.set_ylabel("error / rms of the result")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _budgets(cases: Sequence[CaseRecord], measured: int) -> Figure:
    figure = figures.canvas(1.1 + 0.21 * len(cases))
    axes = figure.add_subplot()
    images = [(n, share) for n, case in enumerate(cases) for share in _image_shares(case)]
    low, high = figures.decades((*(share for _, share in images), 1.0), (0.1, 1.0))
    axes.axvline(1.0, color=RED, linewidth=1.2, label="limit")
    figures.dots(
        axes,
        figures.clamp((share for _, share in images), low, high),
        (n for n, _ in images),
        color=BLUE,
        label="one image of one output",
    )
    for colour, word, wanted in ((GREEN, "passed", True), (RED, "did not pass", False)):
        of_word = [n for n, case in enumerate(cases) if case.status.is_pass is wanted]
        shares = figures.clamp((_share(cases[n]) for n in of_word), low, high)
        if of_word:
            axes.plot(shares, of_word, "|", color=colour, markersize=11, label=f"worst, {word}")
    axes.set_xscale("log", subs=[])
    axes.set_xlim(low / 1.5, high * 1.5)
    axes.set_ylim(len(cases) - 0.4, -0.6)
    axes.set_yticks(range(len(cases)), [figures.name(case.case_id) for case in cases])
    rest = f"; {len(cases)} of {measured} cases, the worst first" if measured > len(cases) else ""
    axes.set_xlabel(f"budget ratio / allowed ratio{rest}")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _agreement(rows: Sequence[tuple[OutputNumbers, OutputBudget | None]], word: str) -> Figure:
    figure = figures.canvas(2.4 * len(rows), right=0.1)
    figure.subplots_adjust(wspace=0.42, hspace=0.5)
    grid = figure.subplots(len(rows), 3, squeeze=False)
    for (left, middle, right), (out, judged) in zip(grid, rows, strict=True):
        _values(left, middle, out, judged, word)
        _image_ratios(right, judged)
    return figure


def _values(
    left: Axes, middle: Axes, out: OutputNumbers, judged: OutputBudget | None, word: str
) -> None:
    left.set_title(figures.name(out.name), fontsize=10, loc="left")
    if out.sample is None:
        for axes in (left, middle):
            axes.text(0.5, 0.5, "values were not kept", ha="center", transform=axes.transAxes)
            axes.set_axis_off()
        return
    cpu, difference = out.sample.reference, out.sample.difference
    device = [a + b for a, b in zip(cpu, difference, strict=True)]
    edges = [min(*cpu, *device), max(*cpu, *device)]
    left.plot(edges, edges, color=INK, linewidth=0.6)
    figures.dots(left, cpu, device, color=BLUE, linewidth=3)
    left.set_xlabel("CPU")
    left.set_ylabel(word)
    if judged is not None and judged.ratio > 0:
        allowed = judged.limit * judged.device.rmse / judged.ratio
        for sign in (-1, 1):
            middle.axhline(sign * allowed, color=RED, linewidth=1, linestyle="--")
    figures.dots(middle, cpu, difference, color=BLUE, linewidth=3)
    middle.set_xlabel("CPU (- -: allowed rmse)")
    middle.set_ylabel(f"{word} - CPU")


def _image_ratios(axes: Axes, judged: OutputBudget | None) -> None:
    if judged is None:
        axes.set_axis_off()
        return
    ratios = judged.image_ratios
    low, high = figures.decades((*ratios, judged.ratio, judged.limit), (0.1, 10.0))
    axes.axhline(judged.limit, color=RED, linewidth=1, linestyle="--")
    axes.plot([-0.5, len(ratios) - 0.5], figures.clamp([judged.ratio] * 2, low, high), color=BLUE)
    figures.dots(axes, range(len(ratios)), figures.clamp(ratios, low, high), color=BLUE)
    axes.set_yscale("log", subs=[])
    axes.set_ylim(low / 1.5, high * 1.5)
    axes.set_xlabel(f"image (- -: allowed, {judged.limit:g}; line: all)")
    axes.set_ylabel("budget ratio")


def _trend(lines: dict[str, list[tuple[int, float]]], stamps: Sequence[str]) -> Figure:
    figure = figures.canvas(3.0)
    axes = figure.add_subplot()
    every = [ratio for points in lines.values() for _, ratio in points]
    low, high = figures.decades(every, (0.1, 10.0))
    order = sorted(lines, key=lambda name: _change(lines[name]), reverse=True)
    for number, name in reversed(list(enumerate(order))):
        named = number < _TRENDS
        axes.plot(
            [place for place, _ in lines[name]],
            figures.clamp((ratio for _, ratio in lines[name]), low, high),
            marker="o" if len(lines[name]) < 3 else None,
            markersize=4,
            linewidth=1.4 if named else 0.5,
            label=figures.name(name) if named else None,
            color=None if named else "#888888",
        )
    axes.set_yscale("log", subs=[])
    axes.set_ylim(low / 1.5, high * 1.5)
    step = math.ceil(len(stamps) / 6)
    axes.set_xticks(range(0, len(stamps), step), stamps[::step])
    axes.set_xlabel("run (UTC)")
    axes.set_ylabel("budget ratio")
    axes.legend(loc="upper left", bbox_to_anchor=(0.0, -0.2), ncols=2, fontsize=8)
    return figure


def _own(row: OperatorRow) -> float:
    return math.inf if row.nonfinite else row.own_rmse


def _relative(row: OperatorRow, value: Callable[[OperatorRow], float]) -> float:
    error = value(row) / row.reference_rms
    return error if error > 0 else 0.0  # a NaN too: nothing was measured


def _image_shares(case: CaseRecord) -> list[float]:
    return [ratio / row.limit for row in case.budgets for ratio in row.image_ratios]


def _share(case: CaseRecord) -> float:
    """The worst ratio of a case in units of what is allowed; infinite where it is no number."""
    shares = [*_image_shares(case), *(row.ratio / row.limit for row in case.budgets)]
    return max(math.inf if share != share else share for share in shares)


def _change(points: Sequence[tuple[int, float]]) -> float:
    values = [ratio for _, ratio in points if 0 < ratio < math.inf]
    return max(values) / min(values) if values else math.inf


def plot(case: CaseRecord, *, copy: str = "") -> Markup | None:
    """Throughput and latency over the batch size, where measured; `copy`: see `figures.render`."""
    found = case.throughput
    if found is None or not any(row.cpu or row.device for row in found.rows):
        return None
    from harness.report.html import plots  # brings matplotlib in

    words = ("CPU", _word(case))
    name = label(case, case.case_id)
    return plots.throughput_by_batch(found, words, name, emulated=case.emulated, copy=copy)
