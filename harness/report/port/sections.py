"""Figures of the port report and what follows from them; no cell is empty or made up."""

from __future__ import annotations

from typing import Any

from harness.judgement import documented
from harness.judgement.arithmetic import declared
from harness.records.lines import CaseRecord
from harness.report.port import features, precision, throughput
from harness.report.port.content import Port
from harness.report.port.texts import Texts
from harness.report.tables import cells, missing, per_case
from harness.report.tables.cells import Table
from harness.report.tables.missing import Missing
from harness.system import messages


def sections(found: Port, t: Texts) -> dict[str, Any]:
    """What the template names."""
    main = found.main
    accuracy_why = _why(missing.gate_missing(main), main, t)
    return {
        "protocol": _protocol(main, t),
        "performance": _performance(main, t),
        "how": _how(main, t),
        **throughput.sections(main, t),
        "accuracy": _accuracy(main, accuracy_why, t),
        "why_missing": t("accuracy.why", reason=t.cut(reason(main, t)))
        if accuracy_why and main is not None and main.reason
        else "",
        "per_image": _per_image(main, accuracy_why, t),
        **_features(main, t),
        "budget": _budget(main, t),
        "plan": precision.plan(main, t),
        "cases": _cases(found, t),
        "limits": _limits(found, t),
    }


def _protocol(main: CaseRecord | None, t: Texts) -> dict[str, str]:
    size = missing.image_size(main) if main is not None else None
    if main is None or size is None:  # nothing was prepared that could be described
        return {"performance": "", "accuracy": ""}
    kind = "features.protocol" if features.has(main) else "accuracy.protocol"
    images = t(
        "protocol",
        count=missing.image_count(main),
        kind=t(f"kind.{main.case.inputs.kind}"),
        size=size,
    )
    device = cells.device_word(main)
    return {
        "performance": t(
            "performance.protocol", images=images, batch=main.case.batch_size, device=device
        ),
        "accuracy": t(kind, images=images, device=device),
    }


def _why(reason: Missing | None, main: CaseRecord | None, t: Texts) -> str | None:
    """Why something is missing, in the report's language; None when nothing is."""
    if reason is Missing.ENDED and main is not None:
        return t("missing.ended", status=main.status.value)
    return t(f"missing.{reason.value}") if reason is not None else None


def _performance(main: CaseRecord | None, t: Texts) -> Table:
    """The documented table: two rows."""
    why = _why(missing.speed_missing(main), main, t)
    device = cells.device_word(main) if main is not None else "NPU"
    names = (t("performance.throughput", device=device), t("performance.speed_up", device=device))
    values: tuple[str, ...]
    if why is not None or main is None or main.candidate is None or main.reference is None:
        values = (t("missing.cell", why=why),) * len(names)
    else:
        none = _why(missing.speed_up_missing(main), main, t)
        ratio = main.speed_ratio
        speed_up = t("missing.cell", why=none) if ratio is None else f"{ratio:.1f} x"
        values = (f"{main.candidate.timing.images_per_second:.1f} img/s", speed_up)
    return Table("", (t("head.metric"), t("head.value")), tuple(zip(names, values, strict=True)))


def _how(main: CaseRecord | None, t: Texts) -> Table:
    """What users ask for beyond the documented table: the CPU's side and latencies."""
    why = _why(missing.speed_missing(main), main, t)
    device = cells.device_word(main) if main is not None else "NPU"
    count = missing.image_count(main) if main is not None else documented.DOCUMENTED_IMAGES
    rows: list[tuple[str, str]] = [
        (t("performance.cpu"), _cpu_speed(main, t)),
        (t("host.row"), _host(main, t)),
    ]
    names = (
        t("performance.passes", device=device),
        t("performance.first"),
        t("performance.latency", count=count),
    )
    # What is missing has its reason in the documented table above.
    if why is None and main is not None and main.candidate is not None:
        timing = main.candidate.timing
        passes = len(timing.forward_seconds)
        points = missing.percentiles(timing)
        latency = (
            " / ".join(map(_milliseconds, points.values()))
            if points
            else t(
                "missing.cell",
                why=t("missing.passes", passes=passes, wanted=missing.PERCENTILE_PASSES),
            )
        )
        values = (
            t("performance.passes_value", passes=passes),
            _milliseconds(timing.first_forward_seconds),
            latency,
        )
        rows += list(zip(names, values, strict=True))
    return Table(t("performance.how"), (t("head.item"), t("head.value")), tuple(rows))


def _host(main: CaseRecord | None, t: Texts) -> str:
    timing = main.reference.timing if main is not None and main.reference is not None else None
    use = timing.host_use if timing is not None else None
    if timing is None or use is None:
        return t("missing.cell", why=t("missing.not_recorded"))
    shares: str = throughput.host_shares(use, None, t)
    if use.megahertz_low is not None and use.megahertz_high is not None:
        low, high = f"{use.megahertz_low:.0f}", f"{use.megahertz_high:.0f}"
        key = "host.one_clock" if low == high else "host.clock"
        shares = t.listed([shares, t(key, low=low, high=high)])
    return t("host.busy", shares=shares) if timing.busy else shares


def reason(main: CaseRecord, t: Texts) -> str:
    """Why a case has its status, in the report's language."""
    return t.said(main.reason_messages, main.reason)


def arithmetic_words(main: CaseRecord, t: Texts) -> str:
    """What the device declares, in the report's language."""
    if main.candidate is None:
        return main.arithmetic
    said = str(declared(main.case.dtype, main.candidate.numerics))
    return t.said(
        messages.of(said) if isinstance(said, messages.Said) else (), main.arithmetic
    ) or (main.arithmetic)


def _features(main: CaseRecord | None, t: Texts) -> dict[str, Any]:
    if main is None or not features.has(main):
        return {"features": None, "features_per_image": None, "element_rule": ""}
    return {
        "features": features.table(main, t),
        "features_per_image": features.per_image(main, t),
        "element_rule": features.element_rule(main, t),
    }


def _milliseconds(seconds: float) -> str:
    """Three digits, without an exponent."""
    value = 1e3 * seconds
    return f"{value:.0f} ms" if value >= 1000 else f"{value:.3g} ms"


def _cpu_speed(main: CaseRecord | None, t: Texts) -> str:
    if main is None:
        return t("missing.cell", why=t("missing.no_record"))
    if main.reference is None:
        return t("missing.cell", why=main.status.value)
    timing = main.reference.timing
    if not timing.forward_seconds:
        return t("missing.cell", why=t("missing.not_timed"))
    shown = t(
        "performance.cpu_value",
        value=f"{timing.images_per_second:.1f} img/s",
        threads=timing.threads or "?",
        passes=len(timing.forward_seconds),
    )
    if timing.cached_since is None:
        return shown
    return t("performance.cpu_since", value=shown, time=f"{timing.cached_since:%Y-%m-%d %H:%M}")


def _accuracy(main: CaseRecord | None, why: str | None, t: Texts) -> Table:
    """The documented table: four rows."""
    names = tuple(t(f"accuracy.{key}") for key in ("cosine", "mae", "error_rate", "top1"))
    values: tuple[str, ...]
    shown = per_case.accuracy(main) if main is not None else None
    if shown is None:
        values = (t("missing.cell", why=why),) * len(names)
    else:
        values = tuple(value for _, value in shown.rows)
    return Table("", (t("head.metric"), t("head.value")), tuple(zip(names, values, strict=True)))


def _per_image(main: CaseRecord | None, why: str | None, t: Texts) -> Table:
    """The documented table: a row an image."""
    device = cells.device_word(main) if main is not None else "NPU"
    header = (
        t("head.image"),
        t("head.top1", device="CPU"),
        t("head.top1", device=device),
        t("head.match"),
        t("head.cosine"),
    )
    if main is None or main.gate is None:
        none = t("missing.cell", why=why)
        count = missing.image_count(main) if main is not None else 1
        rows: tuple[tuple[str, ...], ...] = tuple(
            (str(image) if main is not None else none, *[none] * 4) for image in range(count)
        )
    else:
        rows = tuple(
            (
                str(row.image),
                str(row.cpu_top1),
                str(row.device_top1),
                t("word.yes" if row.match else "word.no"),
                cells.cosine(row.cosine),
            )
            for row in main.gate.rows
        )
    return Table("", header, rows)


def _budget(main: CaseRecord | None, t: Texts) -> Table | None:
    """What the protocol's gate leaves out; absent where nothing was judged."""
    if main is None or not main.budgets:
        return None
    return Table(
        t("accuracy.budget", arithmetic=arithmetic_words(main, t)),
        (t("head.output"), t("head.budget_ratio"), t("head.allowed")),
        tuple((row.name, f"{row.worst_ratio:.3g}", f"{row.limit:g}") for row in main.budgets),
    )


def _cases(found: Port, t: Texts) -> Table:
    if found.cases and all(map(features.has, found.cases)):
        return features.cases(found.cases, t)
    rows = []
    for case in found.cases:
        why = t("missing.cell", why=_why(missing.gate_missing(case), case, t) or "")
        rate = cells.gate_error_rate(case.gate) if case.gate else why
        top1 = f"{case.gate.top1_matches}/{case.gate.images}" if case.gate else why
        ratio = case.budget_ratio
        no_ratio = t("missing.cell", why=t("missing.not_judged"))
        shown = no_ratio if ratio is None else f"{ratio:.3g}"
        rows.append((case.case_id, case.status.value, rate, top1, shown))
    header = (
        *(t("head.case"), t("head.status"), t("head.error_rate")),
        *(t("accuracy.top1"), t("head.budget_ratio")),
    )
    return Table(t("conclusion.cases"), header, tuple(rows))


def _limits(found: Port, t: Texts) -> list[str]:
    main = found.main
    if main is None:
        return [t("limit.no_speed", why=t("missing.no_record")), t("limit.one_device")]
    lines: list[str] = [t("limit.images", count=missing.image_count(main))]
    seen = main.discrimination
    if features.has(main):
        pass  # of a softmax alone; the verdict on features is in `discrimination` of the record
    elif seen is None:
        lines.append(
            t(
                "limit.no_discrimination",
                why=_why(missing.gate_missing(main), main, t) or main.status.value,
            )
        )
    else:
        cosine = cells.cosine(seen.max_cosine)
        lines.append(
            t(
                "limit.discrimination",
                cosine=cosine,
                distinct=seen.distinct_top1,
                count=seen.images,
            )
        )
    if main.arithmetic:
        lines.append(t("limit.arithmetic", arithmetic=arithmetic_words(main, t)))
    lines += _speed_limits(main, t)
    lines.append(t("limit.one_device"))
    power = main.sensitivity
    if power is None or power.problem:
        lines.append(t("limit.no_detection"))
    else:
        lines.append(
            t(
                "limit.detection",
                effective=power.effective,
                gate=power.missed_by_gate,
                missed=power.missed,
            )
        )
    if main.candidate is not None and main.candidate.fallback_operators:
        operators = t.listed(main.candidate.fallback_operators)
        lines.append(t("limit.fallback", operators=t.cut(operators)))
    said = main.note_messages or [list(messages.of(note)) for note in main.notes]
    return lines + [
        t("limit.note", note=t.cut(t.said(parts, note)))
        for note, parts in zip(main.notes, said, strict=True)
    ]


def _speed_limits(main: CaseRecord, t: Texts) -> list[str]:
    why = _why(missing.speed_missing(main), main, t)
    if why is not None or main.candidate is None or main.reference is None:
        return [t("limit.no_speed", why=why or main.status.value)]
    timing = main.reference.timing
    lines: list[str] = [
        t(
            "limit.speed",
            passes=len(main.candidate.timing.forward_seconds),
            threads=timing.threads or "?",
            name=main.reference.device.name,
        )
    ]
    if none := _why(missing.speed_up_missing(main), main, t):
        lines.append(t("limit.no_speed_up", why=none))
    return lines
