"""The port report's part of `--throughput`: batch sizes, latencies, a CPU at its best setting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.judgement.timing import needed
from harness.records.lines import CaseRecord
from harness.records.throughput import BatchTiming, Row, Setting, Throughput, ThroughputPlan
from harness.report.markdown import Verbatim
from harness.report.port.texts import Texts
from harness.report.tables import cells, throughput
from harness.report.tables.cells import Table
from harness.system.host_use import HostUse

_POINTS = (50, 90, 95, 99)


def sections(main: CaseRecord | None, t: Texts) -> dict[str, Any]:
    """What the template names: `batches`, a table or None, and `batch_notes`, lines."""
    found = main.throughput if main is not None else None
    if main is None or found is None:
        return {"batches": None, "batch_notes": [t("batches.not_measured")]}
    if not found.rows:
        why = t.cut(t.said(found.problem_messages, found.problem))
        return {"batches": None, "batch_notes": [t("batches.problem", why=why)]}
    return {"batches": _table(main, found, t), "batch_notes": _notes(main, found, t)}


def _table(main: CaseRecord, found: Throughput, t: Texts) -> Table:
    device = cells.device_word(main)
    header = (
        t("batches.batch"),
        t("performance.throughput", device=device),
        t("performance.cpu"),
        t("performance.speed_up", device=device),
        t("batches.latency", device=device),
        t("batches.latency", device="CPU"),
        t("batches.setting"),
    )
    rows = tuple(_row(main, found, row, t) for row in found.rows)
    return Table(t("batches.title"), header, rows)


def _row(main: CaseRecord, found: Throughput, row: Row, t: Texts) -> tuple[str, ...]:
    none: str = t("missing.cell", why=t("batches.see"))
    emulated: str = t("missing.cell", why=t("missing.emulated"))
    ratio = row.speed_up
    if main.emulated:
        speed, latency, speed_up = emulated, emulated, emulated
    else:
        speed, latency = _speed(row.device, t, none), _latency(row.device, t, none)
        speed_up = none
        if row.cpu is not None and row.cpu.busy:
            speed_up = t("missing.cell", why=t("missing.cpu_busy"))
        if ratio is not None:
            speed_up = _with_range(f"{ratio.value:.3g} x", ratio.low, ratio.high, t)
    return (
        str(row.batch_size),
        speed,
        _speed(row.cpu, t, none),
        speed_up,
        latency,
        _latency(row.cpu, t, none),
        none if row.cpu is None or row.cpu.setting is None else _setting(row.cpu.setting, t),
    )


def _setting(setting: Setting, t: Texts) -> str:
    return t("batches.setting_value", threads=setting.threads, layout=setting.layout)


def _plan(plan: ThroughputPlan, t: Texts) -> str:
    batches = ",".join(map(str, plan.batches))
    precision = f"{100 * plan.precision:g}"
    return t(
        "batches.plan_value", batches=batches, seconds=f"{plan.seconds:g}", precision=precision
    )


def _speed(timing: BatchTiming | None, t: Texts, none: str) -> str:
    if timing is None:
        return none
    low, high = timing.images_per_second_interval or (None, None)
    return _with_range(f"{timing.images_per_second:.4g} img/s", low, high, t)


def _with_range(value: str, low: float | None, high: float | None, t: Texts) -> str:
    if low is None or high is None:
        return t("batches.no_range", value=value)
    return t("batches.range", value=value, low=f"{low:.4g}", high=f"{high:.4g}")


def _latency(timing: BatchTiming | None, t: Texts, none: str) -> str:
    if timing is None:
        return none
    wall = timing.wall
    shown = [
        t("batches.few", repeats=needed(point)) if value is None else f"{1e3 * value:.4g}"
        for point, value in zip(_POINTS, (wall.p50, wall.p90, wall.p95, wall.p99), strict=True)
    ]
    return " / ".join(shown)


def _notes(main: CaseRecord, found: Throughput, t: Texts) -> list[str]:
    """What the CPU was, and everything that makes these figures less than they seem."""
    sides = [
        (t("batches.where", side=word, batch=row.batch_size), timing, problem)
        for row, word, timing, problem in throughput.sides(main, found)
    ]
    notes: list[str] = [t("batches.plan", plan=_plan(found.plan, t))]
    host = found.host
    if host is not None:
        notes.append(
            t(
                "batches.cpu",
                model=host.model,
                cores=host.physical_cores,
                threads=host.default_threads,
                load=f"{host.load:.2f}",
            )
        )
    for where, timing, _ in sides:
        if timing is not None and timing.busy:
            notes.append(t("batches.busy", where=where, shares=_shares(timing, t)))
        if timing is not None and timing.not_tried:
            tried = len(timing.search) - timing.not_tried
            notes.append(t("batches.cut_short", where=where, tried=tried, of=len(timing.search)))
    imprecise = [where for where, timing, _ in sides if timing and not found.reached(timing)]
    unstable = [where for where, timing, _ in sides if timing and not timing.stable]
    notes += _listed("batches.imprecise", imprecise, t, f"{100 * found.plan.precision:g} %")
    notes += _listed("batches.unstable", unstable, t)
    return notes + [
        t("batches.missing", where=where, why=t.cut(t.said(problem.messages, problem)))
        for where, timing, problem in sides
        if timing is None
    ]


def _listed(key: str, where: Sequence[str], t: Texts, precision: str = "") -> list[str]:
    joined = Verbatim(t("list.stop").join(where))
    return [t(key, where=joined, precision=precision)] if where else []


def _shares(timing: BatchTiming, t: Texts) -> str:
    """What others had of the host, in numbers."""
    load = timing.host.load if timing.host is not None else None
    return host_shares(timing.host_use, load, t)


def host_shares(use: HostUse | None, load: float | None, t: Texts) -> str:
    """What others had of the host while it was timed; the load where nothing else is known."""
    shown = [("load", load if load is not None else use.load if use is not None else None)]
    if use is not None:
        named = (("waited", use.waited), ("steal", use.steal), ("others", use.others))
        shown += [(name, None if share is None else 100 * share) for name, share in named]
    return t.listed(
        [
            t(f"host.{name}", value=f"{value:.2f}" if name == "load" else f"{value:.0f}")
            for name, value in shown
            if value is not None
        ]
    )
