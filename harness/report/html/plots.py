"""The plots of the HTML report, one function each; what they show stands in tables as well.

To add one: a function that returns `figures.render` of a figure, and its place in `html.py`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from harness.judgement.budget import OutputBudget
from harness.judgement.localization import Localization
from harness.judgement.metrics import SAMPLE_WORST, PairedSample
from harness.judgement.operator_rows import OperatorRow
from harness.records.lines import CaseRecord
from harness.report.html import figures
from harness.report.html.figures import AMBER, BLUE, GREEN, INK, RED, Drawing
from harness.report.tables import cells
from harness.upgrade.history import HistoryEntry

_NAMED = 3  # culprits with their name in the plot
_CASES = 30  # of the overview
_TRENDS = 8  # cases with a line of their own
_OUTPUTS = 3  # with plots of their own

# How to read each plot.
_DEPTH = (
    "Operators from left to right as they run. Own error: what the operator adds on right inputs; "
    "above its budget (the thin stroke) rounding does not explain it, and red it is a culprit. "
    "Inherited error: what has piled up by then; it may follow its own budget, not leave it."
)
_BUDGETS = (
    "Each row is a case, each dot one image of one output. Left of the red line the error is what "
    "the declared arithmetic costs this model; right of it, it is more than that allows."
)
_DIFFERENCE = (
    "A right device gives a cloud around zero; a slope or a step is systematic. Rings: the "
    "{count} greatest of all {total} differences, always shown. No limit belongs here: it is one "
    "for the root mean square, in the plot of budget ratios."
)
_RATIOS = (
    "Each dot is one image, the line all of them together; 1 is honest rounding. The case passes "
    "below the dashed line."
)
_EQUAL = "Device and CPU are equal in every value."
_TREND = "Each line is a case over its runs. A step at an upgrade is what to look at."


def error_over_depth(found: Localization, name: str, *, copy: str = "") -> Drawing:
    """Own and inherited error of every operator and their budgets, relative, over the depth.

    Errors are divided by the root mean square of the reference's result.  No error at all is
    drawn at the lower edge, an infinite one at the upper.  `name`: of the case; `copy`: see
    `figures.render`.
    """
    title = f"Error over depth of {name}: {found.conclusion()}"
    return Drawing(figures.render(lambda: _errors(found), title, copy=copy), _DEPTH)


def budgets(cases: Sequence[CaseRecord]) -> Drawing | None:
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
    return Drawing(figures.render(lambda: _budgets(shown, len(measured)), title), _BUDGETS)


def agreement(case: CaseRecord, *, copy: str = "") -> list[Drawing]:
    """Device against CPU, their difference, and each image's budget ratio, for every output.

    Nothing where the outputs were not compared.
    """
    judged = {row.name: row for row in case.budgets}
    word, drawn = cells.device_word(case), []
    for out in [one for one in case.outputs if one.sample is not None or one.name in judged][
        :_OUTPUTS
    ]:
        of = cells.label(case, f"{out.name} of {case.case_id}")
        equal = out.max_abs_error == 0
        panels: list[tuple[Callable[[], Figure], str, str]] = []
        if (sample := out.sample) is not None and not equal:
            panels += [
                (
                    functools.partial(_values, sample, out.name, word),
                    f"{word} against CPU, {of}",
                    f"{out.name}: every dot is one value. On the line both sides agree.",
                ),
                (
                    functools.partial(_differences, sample, out.name, word),
                    f"{word} minus CPU, {of}",
                    _DIFFERENCE.format(count=min(SAMPLE_WORST, sample.total), total=sample.total),
                ),
            ]
        if (row := judged.get(out.name)) is not None:
            reading = f"{_EQUAL} {_RATIOS}" if equal else _RATIOS
            panels.append((functools.partial(_image_ratios, row), f"Budget ratios, {of}", reading))
        drawn += [
            Drawing(figures.render(draw, title, copy=copy), reading)
            for draw, title, reading in panels
        ]
    return drawn


def trend(found: Sequence[HistoryEntry]) -> Drawing | None:
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
    svg = figures.render(lambda: _trend(lines, [stamps[run] for run in runs]), title)
    return Drawing(svg, _TREND)


def _errors(found: Localization) -> Figure:
    rows = [row for row in found.rows if row.reference_rms > 0]
    culprits = {row.index for row in found.culprits}
    # Own errors stand alone, inherited ones follow from each other.
    series = (
        ("own error", _own, AMBER, 3.0, "-", True),
        ("own budget", lambda row: row.budget_rmse, AMBER, 0.9, "-", True),
        ("inherited error", lambda row: row.inherited_rmse, BLUE, 1.4, "-", False),
        ("inherited budget", lambda row: row.inherited_budget_rmse, BLUE, 1.2, ":", False),
    )
    relative = [[_relative(row, value) for row in rows] for _, value, *_ in series]
    low, high = figures.decades((v for values in relative for v in values), (1e-8, 1e-6))
    figure = figures.canvas(3.7, margins=(0.8, 0.75))
    axes = figure.add_subplot()
    calls = [row.index for row in rows]
    stroke = max(0.4, calls[-1] / 500)
    for (text, _, colour, width, style, apart), values in zip(series, relative, strict=True):
        across: list[float] = [*calls]
        height = figures.clamp(values, low, high)
        if apart:  # one path of short strokes: a marker for each would make the page heavy
            across, height = _strokes(across, height, stroke)
        axes.plot(across, height, style, label=text, color=colour, linewidth=width)
    # Of a hundred culprits no mark may hide another, nor the curves.
    marked = [(row.index, _relative(row, _own)) for row in rows if row.index in culprits]
    if marked:
        places, errors = zip(*marked, strict=True)
        across, height = _strokes(places, figures.clamp(errors, low, high), stroke)
        label = f"own error of {len(marked)} culprit{'s' * (len(marked) > 1)}"
        axes.plot(across, height, color=RED, linewidth=4, zorder=5, label=label)
    named = found.culprits[:_NAMED] if len(culprits) <= _NAMED else found.culprits[:1]
    for number, row in enumerate(named):
        axes.axvline(row.index, color=RED, linewidth=0.8)
        axes.text(
            row.index,
            0.93 - 0.07 * number,
            f" {figures.name(row.module)} ",
            transform=axes.get_xaxis_transform(),
            ha="right" if row.index > calls[-1] / 2 else "left",
            color=RED,
        )
    axes.set_yscale("log", subs=[])
    axes.set_ylim(low / 2, high * 10 ** (0.6 + 0.4 * len(named)))
    axes.set_xlabel("operator, in the order of execution")
    axes.set_ylabel("error / rms of the result")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, fontsize=9)
    return figure


def _strokes(
    across: Sequence[float], height: Sequence[float], stroke: float
) -> tuple[list[float], list[float]]:
    """Points as short level strokes, in one path."""
    return (
        [x for place in across for x in (place - stroke, place + stroke, math.nan)],
        [y for value in height for y in (value, value, math.nan)],
    )


def _budgets(cases: Sequence[CaseRecord], measured: int) -> Figure:
    height = 1.15 + 0.36 * len(cases)
    figure = figures.canvas(height, margins=(0.2, 0.6))
    axes = figure.add_subplot()
    images = [(n, share) for n, case in enumerate(cases) for share in _image_shares(case)]
    low, high = figures.decades((*(share for _, share in images), 0.1, 1.0), (0.1, 1.0))
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
    axes.set_ylim(len(cases) - 0.5, -0.9)
    axes.set_yticks([])
    for number, case in enumerate(cases):  # above its dots: beside them they would lose their room
        axes.text(
            0.01, number - 0.3, figures.name(case.case_id), fontsize=9,
            transform=axes.get_yaxis_transform(),
        )  # fmt: skip
    rest = f"; {len(cases)} of {measured} cases, the worst first" if measured > len(cases) else ""
    axes.set_xlabel(f"budget ratio / allowed ratio{rest}")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, fontsize=9)
    return figure


def _values(sample: PairedSample, name: str, word: str) -> Figure:
    figure = figures.canvas(2.6, width=figures.NARROW, margins=(0.75, 0.3))
    axes = figure.add_subplot()
    axes.set_title(figures.name(name), fontsize=10, loc="left")
    cpu = sample.reference
    device = [a + b for a, b in zip(cpu, sample.difference, strict=True)]
    edges = [min(*cpu, *device), max(*cpu, *device)]
    axes.plot(edges, edges, color=INK, linewidth=0.6)
    figures.dots(axes, cpu, device, color=BLUE, linewidth=3)
    axes.set_xlabel("CPU")
    axes.set_ylabel(word)
    return figure


def _differences(sample: PairedSample, name: str, word: str) -> Figure:
    """The difference without a limit: single values have none, and the greatest are shown."""
    figure = figures.canvas(2.6, width=figures.NARROW, margins=(1.0, 0.3))
    axes = figure.add_subplot()
    axes.set_title(figures.name(name), fontsize=10, loc="left")
    pairs = sorted(
        zip(sample.reference, sample.difference, strict=True), key=lambda pair: abs(pair[1])
    )
    greatest = pairs[-SAMPLE_WORST:] if sample.total > len(pairs) else []
    rest = pairs[: len(pairs) - len(greatest)]
    axes.axhline(0.0, color=INK, linewidth=0.6)
    figures.dots(axes, *zip(*rest, strict=True), color=BLUE, linewidth=3)
    if greatest:
        axes.plot(*zip(*greatest, strict=True), "o", color=BLUE, markersize=4, fillstyle="none")
    axes.set_xlabel("CPU")
    axes.set_ylabel(f"{word} - CPU")
    return figure


def _image_ratios(judged: OutputBudget) -> Figure:
    figure = figures.canvas(2.6, width=figures.NARROW, margins=(0.75, 0.3))
    axes = figure.add_subplot()
    axes.set_title(figures.name(judged.name), fontsize=10, loc="left")
    ratios = judged.image_ratios
    low, high = figures.decades((*ratios, judged.ratio, judged.limit), (0.1, 10.0))
    axes.axhline(judged.limit, color=RED, linewidth=1, linestyle="--")
    axes.plot([-0.5, len(ratios) - 0.5], figures.clamp([judged.ratio] * 2, low, high), color=BLUE)
    figures.dots(axes, range(len(ratios)), figures.clamp(ratios, low, high), color=BLUE)
    axes.set_yscale("log", subs=[])
    axes.set_ylim(low / 1.5, high * 1.5)
    axes.set_xlabel(f"image (allowed: {judged.limit:g})")
    axes.set_ylabel("budget ratio")
    return figure


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
