"""The plot of throughput and latency over the batch size."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from harness.records.lines import CaseRecord
from harness.records.throughput import BatchTiming, Throughput
from harness.report.html import figures
from harness.report.html.figures import AMBER, BLUE, Drawing
from harness.report.tables.cells import label
from harness.report.tables.throughput import side_word

_READING = (
    "Left: images a second, more is better. Right: latency, less is better; p95 and p99 far above "
    "p50 mean that some calls had to wait."
)


def of_case(case: CaseRecord, *, copy: str = "") -> Drawing | None:
    """Throughput and latency over the batch size, where measured; `copy`: see `figures.render`."""
    found = case.throughput
    if found is None or not any(row.cpu or row.device for row in found.rows):
        return None
    words = ("CPU", side_word(case))
    name = label(case, case.case_id)
    return throughput_by_batch(found, words, name, emulated=case.emulated, copy=copy)


def throughput_by_batch(
    found: Throughput, words: tuple[str, str], name: str, *, emulated: bool, copy: str = ""
) -> Drawing:
    """Images a second, and percentiles of the latency, over the batch size.

    `words`: what CPU and device are called.  Bars are 95 % intervals.  The throughput of an
    emulated device is not drawn: it is no figure of merit.  `copy`: see `figures.render`.
    """
    title = f"Throughput and latency by batch size of {name}"
    svg = figures.render(lambda: _speeds(found, words, emulated), title, copy=copy)
    return Drawing(svg, _READING)


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
