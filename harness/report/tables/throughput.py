"""Throughput, latency and peak memory as tables; the verdict does not know them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from harness.judgement.timing import needed
from harness.records.leg import MemoryUse
from harness.records.lines import CaseRecord
from harness.records.throughput import BatchTiming, Row, Throughput
from harness.report.tables import performance
from harness.report.tables.cells import EMULATED, Table, device_word, label
from harness.system import messages
from harness.system.messages import Said, listed, say
from harness.system.processor import HostInfo

NOT_SHOWN = f"not shown: {EMULATED}"
_NONE = "not measured"
_MIB = 1 << 20


def tables(case: CaseRecord) -> list[Table]:
    """All tables of a case whose throughput was measured, else none."""
    found = case.throughput
    if found is None or not found.rows:
        return []
    made = [_latency(case, found), _speed_up(case, found), _how(case, found), _search(found)]
    host = found.host
    return [*filter(None, made), *([_host(host)] if host is not None else [])]


def lines(case: CaseRecord) -> list[str]:
    """What was not measured, or not as asked, in sentences."""
    found = case.throughput
    if found is None:
        return []
    text = [messages.beside(found.problem, found.problem_messages)] if found.problem else []
    imprecise, unstable = [], []
    for row, word, timing, problem in sides(case, found):
        where = say("batch.where", "{side} at batch {size}", side=word, size=row.batch_size)
        if timing is None:
            english = "{where} has no times: {problem}"
            text.append(say("batch.no_times", english, where=where, problem=problem))
            continue
        if not found.reached(timing):
            imprecise.append(
                say(
                    "batch.reached",
                    "{where} ({precision} after {repeats} repeats)",
                    where=where,
                    precision=_percent(timing.wall.precision),
                    repeats=timing.wall.repeats,
                )
            )
        if not timing.stable:
            english = "{where} ({calls} calls)"
            unstable.append(say("batch.calls", english, where=where, calls=timing.warm_up))
        if timing.busy:
            text.append(
                say(
                    "batch.busy",
                    "HOST BUSY while {where} was timed ({use}): other work took part of the CPU, "
                    "so that there is no speed-up.",
                    where=where,
                    use=host_use(timing),
                )
            )
        if timing.not_tried:
            text.append(
                say(
                    "batch.cut_short",
                    "SEARCH CUT SHORT for {where}: of {total} settings of the CPU {left} were not "
                    "tried; raise --throughput-seconds.",
                    where=where,
                    total=len(timing.search),
                    left=timing.not_tried,
                )
            )
    if imprecise:
        text.append(
            say(
                "batch.imprecise",
                "PRECISION NOT REACHED, {asked} was asked for: {where}; raise "
                "--throughput-seconds, or leave the machine to this run.",
                asked=_percent(found.plan.precision),
                where=listed(imprecise),
            )
        )
    if unstable:
        text.append(
            say(
                "batch.unstable",
                "NOT STABLE, the times still moved by more than 5 % when the warm-up ended: "
                "{where}.",
                where=listed(unstable),
            )
        )
    return [label(case, say("batch.line", "Throughput: {line}", line=line)) for line in text]


def host_use(timing: BatchTiming) -> str:
    """What others had of the host while a side was timed, in numbers."""
    host, use = timing.host, timing.host_use
    parts = []
    if host:
        english = "load {load} on {cores} logical cores"
        parts.append(
            say("host.load_on", english, load=f"{host.load:.2f}", cores=host.logical_cores)
        )
    return listed([*parts, *(performance.shares(use) if use is not None else ())])


def memory(case: CaseRecord) -> Table | None:
    """Peak memory of both legs of the case."""
    legs = (("CPU", case.reference), (device_word(case), case.candidate))
    rows = []
    for word, leg in legs:
        if leg is None or leg.memory is None:
            continue
        since = leg.timing.cached_since
        when = f", measured {since:%Y-%m-%d %H:%M UTC}" if since is not None else ""
        emulated = f" {EMULATED}" if leg.device.emulated else ""
        rows.append((f"{word}{emulated}{when}", *_memory_cells(leg.memory)))
    header = (
        "side",
        "peak device memory [MiB]",
        "reserved device memory [MiB]",
        "peak host memory [MiB]",
        "host memory before [MiB]",
    )
    return Table(label(case, "Peak memory"), header, tuple(rows)) if rows else None


def _latency(case: CaseRecord, found: Throughput) -> Table:
    def speed(at: _At) -> tuple[str, str]:
        emulated = at.timing is at.row.device and case.emulated
        return (NOT_SHOWN, NOT_SHOWN) if emulated else _speed(at.timing)

    def precision(at: _At) -> str:
        asked = "" if found.reached(at.timing) else _percent(found.plan.precision)
        reached = _percent(at.timing.wall.precision)
        return f"{reached} NOT REACHED ({asked})" if asked else reached

    return _by_side(
        case,
        found,
        f"Throughput and latency ({found.plan})",
        ("images/s", lambda at: speed(at)[0]),
        ("images/s, 95 %", lambda at: speed(at)[1]),
        ("mean [ms]", lambda at: _ms(at.timing.wall.mean)),
        ("p50 [ms]", lambda at: _ms(at.timing.wall.p50)),
        ("p50, 95 % [ms]", lambda at: _range(at.timing.wall.p50_low, at.timing.wall.p50_high, 1e3)),
        ("p90 [ms]", lambda at: _percentile(at.timing.wall.p90, 90)),
        ("p95 [ms]", lambda at: _percentile(at.timing.wall.p95, 95)),
        ("p99 [ms]", lambda at: _percentile(at.timing.wall.p99, 99)),
        ("repeats", lambda at: str(at.timing.wall.repeats)),
        ("outliers", lambda at: str(at.timing.wall.outliers)),
        ("precision", precision),
    )


def _speed_up(case: CaseRecord, found: Throughput) -> Table | None:
    """The speed-up with its interval and the CPU's setting beside it."""
    rows = []
    for row in found.rows:
        if row.cpu is None:
            continue
        ratio = row.speed_up
        if case.emulated:
            shown = (NOT_SHOWN, NOT_SHOWN)
        elif row.cpu.busy:
            shown = ("none: HOST BUSY", "none: HOST BUSY")
        elif ratio is None:
            shown = (_NONE, _NONE)
        else:
            sides = (row.cpu, row.device)
            loud = "" if all(s and found.reached(s) for s in sides) else ", PRECISION NOT REACHED"
            shown = (f"{ratio.value:.3g} x{loud}", _range(ratio.low, ratio.high))
        rows.append((str(row.batch_size), *shown, str(row.cpu.setting)))
    header = ("batch", f"CPU/{device_word(case)} speed-up", "speed-up, 95 %", "CPU setting")
    title = "Speed-up: median latency of the CPU at its best setting over that of the device"
    return Table(label(case, title), header, tuple(rows)) if rows else None


def _how(case: CaseRecord, found: Throughput) -> Table:
    def copies(at: _At) -> tuple[str, str]:
        copied = at.timing.copies
        return (_ms(copied.into), _ms(copied.out)) if copied else ("no copy", "no copy")

    def events(at: _At) -> str:
        return _ms(at.timing.events.p50) if at.timing.events else "no events"

    return _by_side(
        case,
        found,
        f"Beside the forward (clock of the events: {found.clock})",
        ("first call [ms]", lambda at: _ms(at.timing.first_seconds)),
        ("warm-up calls", lambda at: str(at.timing.warm_up)),
        ("stable", lambda at: "yes" if at.timing.stable else "NO"),
        ("events p50 [ms]", events),
        ("copy in [ms]", lambda at: copies(at)[0]),
        ("copy out [ms]", lambda at: copies(at)[1]),
        ("cores busy", lambda at: f"{at.timing.cores:.2f}"),
        ("peak device memory [MiB]", lambda at: _memory_cells(at.timing.memory)[0]),
        ("peak host memory [MiB]", lambda at: _memory_cells(at.timing.memory)[2]),
    )


def _search(found: Throughput) -> Table | None:
    """Every setting of the CPU that was tried."""
    rows = tuple(
        (
            str(row.batch_size),
            str(setting.threads),
            setting.layout,
            _ms(setting.seconds) if setting.seconds else setting.note,
            f"{row.batch_size / setting.seconds:.4g}" if setting.seconds else setting.note,
            "chosen" if setting == row.cpu.setting else "no",
        )
        for row in found.rows
        if row.cpu is not None
        for setting in row.cpu.search
    )
    header = ("batch", "threads", "layout", "trial [ms]", "trial [images/s]", "chosen")
    return Table("CPU settings tried", header, rows) if rows else None


def _host(host: HostInfo) -> Table:
    limit = "none" if host.quota is None else f"{host.quota:g} cores"
    settings = ", ".join(f"{key}={value}" for key, value in host.settings.items())
    return Table(
        "The CPU that was measured",
        ("item", "value"),
        (
            ("model", f"{host.model} ({host.architecture})"),
            ("cores that it may use", f"{host.physical_cores} ({host.logical_cores} logical)"),
            ("affinity", host.affinity),
            ("limit of the control group", limit),
            ("instruction sets", ", ".join(host.flags) or "none that matter here"),
            ("PyTorch's kernels", host.capability),
            ("oneDNN", "on" if host.onednn else "OFF: not in this PyTorch"),
            ("PyTorch's own number of threads", str(host.default_threads)),
            ("settings", settings or "none"),
            ("load of the host before", f"{host.load:.2f}"),
        ),
    )


class _At(NamedTuple):
    """One side at one batch size."""

    row: Row
    timing: BatchTiming


def _by_side(
    case: CaseRecord, found: Throughput, title: str, *columns: tuple[str, Callable[[_At], str]]
) -> Table:
    """A row for each batch size and side; `columns`: what stands behind these two."""
    rows = []
    for row, word, timing, _ in sides(case, found):
        at = None if timing is None else _At(row, timing)
        cells = (_NONE if at is None else show(at) for _, show in columns)
        rows.append((word, str(row.batch_size), *cells))
    header = ("side", "batch", *(heading for heading, _ in columns))
    return Table(label(case, title), header, tuple(rows))


def sides(
    case: CaseRecord, found: Throughput
) -> Iterator[tuple[Row, str, BatchTiming | None, Said]]:
    """Row, word for the side, its times or why it has none."""
    for row in found.rows:
        yield row, "CPU", row.cpu, messages.beside(row.cpu_problem, row.cpu_messages)
        problem = messages.beside(row.device_problem, row.device_messages)
        yield row, side_word(case), row.device, problem


def side_word(case: CaseRecord) -> str:
    """What the columns of a side are called: never twice the same."""
    word = device_word(case)
    if word == "CPU":  # a comparison of the CPU with itself
        word = "CPU as device"
    return f"{word} {EMULATED}" if case.emulated else word


def _memory_cells(used: MemoryUse) -> tuple[str, str, str, str]:
    since = ", since the process began" if used.host_since_start else ""
    return (
        _mib(used.device_peak, "the host's"),
        _mib(used.device_reserved, "the host's"),
        _mib(used.host_peak) + since,
        _mib(used.host_before),
    )


def _speed(timing: BatchTiming) -> tuple[str, str]:
    interval = timing.images_per_second_interval
    shown = _range(*interval) if interval else "too few independent repeats"
    return f"{timing.images_per_second:.4g}", shown


def _percentile(value: float | None, percent: int) -> str:
    return f"fewer than {needed(percent)} repeats" if value is None else _ms(value)


def _range(low: float | None, high: float | None, factor: float = 1.0) -> str:
    if low is None or high is None:
        return "too few independent repeats"
    return f"{factor * low:.4g} to {factor * high:.4g}"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.4g}"


def _mib(value: int | None, none: str = "unknown") -> str:
    return none if value is None else f"{value / _MIB:.1f}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if share < 1e3 else "no interval"
