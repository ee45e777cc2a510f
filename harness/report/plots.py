"""Plots as SVG, to be put into a page: they take its text colour and need no script."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from harness.localization import Localization
from harness.operator_rows import OperatorRow
from harness.throughput import BatchTiming, Throughput

# Stands for the page's text colour, which SVG calls currentColor and matplotlib does not know.
_INK = "#010203"
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}
_OWN, _INHERITED, _CULPRIT = "#d97706", "#2563eb", "#dc2626"  # readable on light and dark
_NAMED = 3  # culprits with their name in the plot


def error_over_depth(found: Localization, name: str) -> Markup:
    """Own and inherited error of every operator and their budgets, relative, over the depth.

    Errors are divided by the root mean square of the reference's result.  No error at all is
    drawn at the lower edge, an infinite one at the upper.  `name`: of the case, for readers who
    do not see the plot.
    """
    title = f"Error over depth of {name}: {found.conclusion()}"
    # The ids in it are the same in every run, and unlike another plot's on the page.
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": title}):
        return _svg(_errors(found), title)


def throughput_by_batch(
    found: Throughput, words: tuple[str, str], name: str, *, emulated: bool
) -> Markup:
    """Images a second, and percentiles of the latency, over the batch size.

    `words`: what CPU and device are called.  Bars are 95 % intervals.  The throughput of an
    emulated device is not drawn: it is no figure of merit.
    """
    title = f"Throughput and latency by batch size of {name}"
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": title}):
        return _svg(_speeds(found, words, emulated), title)


def _speeds(found: Throughput, words: tuple[str, str], emulated: bool) -> Figure:
    figure = Figure(figsize=(9.0, 3.4), layout="constrained")
    FigureCanvasSVG(figure)
    speed, latency = figure.subplots(1, 2)
    rows = sorted(found.rows, key=lambda row: row.batch_size)
    sides = (
        (words[0], _INHERITED, [row.cpu for row in rows], True),
        (words[1], _OWN, [row.device for row in rows], not emulated),
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
        axes.legend(frameon=False)
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
        ("own error", _own, _OWN, 3.0, "-", True),
        ("own budget", lambda row: row.budget_rmse, _OWN, 0.9, "-", True),
        ("inherited error", lambda row: row.inherited_rmse, _INHERITED, 1.4, "-", False),
        ("inherited budget", lambda row: row.inherited_budget_rmse, _INHERITED, 1.2, ":", False),
    )
    relative = [[_relative(row, value) for row in rows] for _, value, *_ in series]
    low, high = _edges([value for values in relative for value in values])
    figure = Figure(figsize=(9.0, 3.4), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    calls = [row.index for row in rows]
    for (label, _, colour, width, style, apart), values in zip(series, relative, strict=True):
        across: list[float] = [*calls]
        height = [min(max(value, low), high) for value in values]
        if apart:  # one path of short strokes: a marker for each would make the page heavy
            stroke = max(0.4, calls[-1] / 500)
            across = [x for call in calls for x in (call - stroke, call + stroke, math.nan)]
            height = [y for value in height for y in (value, value, math.nan)]
        axes.plot(across, height, style, label=label, color=colour, linewidth=width)
    for number, row in enumerate(found.culprits):
        axes.plot(
            [row.index],
            [min(max(_relative(row, _own), low), high)],
            "X",
            color=_CULPRIT,
            markersize=10,
            zorder=5,
        )
        if number < _NAMED:
            axes.axvline(row.index, color=_CULPRIT, linewidth=0.8)
            axes.text(
                row.index,
                1.02 + 0.07 * number,
                row.module,
                transform=axes.get_xaxis_transform(),
                ha="right" if row.index > calls[-1] / 2 else "left",
                color=_CULPRIT,
            )
    axes.set_yscale("log")
    axes.set_ylim(low / 2, high * 4)
    axes.set_xlabel("operator, in the order of execution")
    axes.set_ylabel("error / rms of the result")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def _own(row: OperatorRow) -> float:
    return math.inf if row.nonfinite else row.own_rmse


def _relative(row: OperatorRow, value: Callable[[OperatorRow], float]) -> float:
    error = value(row) / row.reference_rms
    return error if error > 0 else 0.0  # a NaN too: nothing was measured


def _edges(values: Sequence[float]) -> tuple[float, float]:
    """The decades that hold all finite errors, with at least two of them."""
    finite = [value for value in values if 0 < value < math.inf]
    low = 10.0 ** math.floor(math.log10(min(finite, default=1e-8)))
    high = 10.0 ** math.ceil(math.log10(max(finite, default=1e-6)))
    return low, max(high, 100 * low)


def _svg(figure: Figure, title: str) -> Markup:
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    drawing = text.getvalue()
    drawing = drawing[drawing.index("<svg") :].replace(_INK, "currentColor")
    label = Markup('<svg role="img" aria-label="{}" class="harness-plot" ').format(title)
    return label + Markup(drawing.removeprefix("<svg "))
