"""The score sheet that contests of ports ask for: as JSON, and as a table without an empty cell.

What does not apply to a model, or was not measured, has its reason, once.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from harness.judgement.documented import ERROR_RATE_LIMIT_PERCENT
from harness.judgement.verdict import OutputNumbers
from harness.records.lines import CaseRecord
from harness.report.port.content import Draft, Port
from harness.report.port.setup import weights
from harness.report.port.texts import Texts
from harness.report.tables import cells, missing
from harness.report.tables.cells import Table
from harness.system.status import Status


@dataclasses.dataclass(frozen=True)
class Entry:
    """One field: its key in the JSON, its value, or why it has none (a key of the texts)."""

    key: str
    value: Any = None
    shown: str = ""
    why: str = ""


def main_output(main: CaseRecord) -> OutputNumbers | None:
    """The output that is published: what the model itself returns, not a feature map inside."""
    return next((row for row in main.outputs if row.name == "output"), None) or next(
        iter(main.outputs), None
    )


def entries(found: Port) -> list[Entry]:
    """Every field of the sheet, in its order."""
    main = found.main
    if main is None:
        return [Entry(key, why="missing.no_record") for key in _KEYS]
    real = Draft.RANDOM_WEIGHTS not in found.drafts and bool(main.weights_sha256)
    return [
        Entry("real_weights_loaded", real, shown="yes" if real else "no"),
        Entry("weights", main.weights, "weights") if main.weights else _none("weights", main),
        *_of_outputs(main),
        *_of_classes(main),
        *_latencies(main),
        Entry("result", main.status.value, main.status.value),
    ]


_KEYS = (
    *("real_weights_loaded", "weights", "max_abs_diff", "mean_abs_diff", "cosine_similarity"),
    *("match_within_1_percent", "top1_match", "top5_match", "device_latency_ms", "cpu_latency_ms"),
    *("throughput_images_per_second", "result"),
)


def document(found: Port) -> dict[str, Any]:
    """Content of results/score.json: `value` of every field, or why it is `not_applicable`."""
    return {
        one.key: {"value": one.value} if not one.why else {"not_applicable": _english(one, found)}
        for one in entries(found)
    }


def table(found: Port, t: Texts) -> tuple[Table, list[str]]:
    """The sheet and its notes: a reason stands once, however many fields it is about."""
    reasons: dict[str, int] = {}
    rows: list[tuple[str, str]] = []
    for one in entries(found):
        name = t(f"score.{one.key}")
        if one.why:
            why = t.because(one.why, found.main)
            number = reasons.setdefault(why, len(reasons) + 1)
            rows.append((name, t("score.see", number=number)))
        elif one.shown == one.key == "weights":
            rows.append((name, weights(found, t)))
        elif one.shown in ("yes", "no"):
            rows.append((name, t(f"word.{one.shown}")))
        else:
            rows.append((name, one.shown))
    notes: list[str] = [t("score.note", number=number, why=why) for why, number in reasons.items()]
    return Table("", (t("score.field"), t("head.value")), tuple(rows)), notes


def _of_outputs(main: CaseRecord) -> list[Entry]:
    output = main_output(main)
    keys = ("max_abs_diff", "mean_abs_diff", "cosine_similarity", "match_within_1_percent")
    if output is None:
        judged = main.budgets or main.status is Status.PASS  # a record from before
        why = "missing.not_recorded" if judged else "missing.ended"
        return [Entry(key, why=why) for key in keys]
    # As documented, of the softmax where there are classes; of the features where there are none.
    gate = main.gate
    images = [row.cosine for row in output.images] or [output.min_cosine]
    cosine = gate.mean_cosine if gate is not None else sum(images) / len(images)
    rate = 100 * (1 - cosine)
    within = rate < ERROR_RATE_LIMIT_PERCENT
    return [
        Entry("max_abs_diff", output.max_abs_error, f"{output.max_abs_error:.6g}"),
        Entry("mean_abs_diff", output.mean_abs_error, f"{output.mean_abs_error:.6g}"),
        Entry("cosine_similarity", cosine, cells.cosine(cosine)),
        Entry("match_within_1_percent", within, "yes" if within else "no"),
    ]


def _of_classes(main: CaseRecord) -> list[Entry]:
    gate = main.gate
    if gate is None:
        return [_none("top1_match", main), _none("top5_match", main)]
    top1 = f"{gate.top1_matches}/{gate.images}"
    top5 = gate.top5_matches
    known = 0 < _classes(main) <= 5  # else a record from before
    few = Entry("top5_match", why="missing.few_classes" if known else "missing.not_recorded")
    return [
        Entry("top1_match", top1, top1),
        few if top5 is None else Entry("top5_match", text := f"{top5}/{gate.images}", text),
    ]


def _classes(main: CaseRecord) -> int:
    output = main_output(main)
    return output.shape[-1] if output is not None and len(output.shape) == 2 else 0


def _latencies(main: CaseRecord) -> list[Entry]:
    speed = missing.speed_missing(main)
    found = []
    for key, leg, why in (
        ("device_latency_ms", main.candidate, speed),
        ("cpu_latency_ms", main.reference, missing.cpu_time_missing(main)),
    ):
        if why is not None or leg is None:
            found.append(Entry(key, why=f"missing.{(why or missing.Missing.ENDED).value}"))
            continue
        ordered = sorted(leg.timing.forward_seconds)
        value = 1e3 * ordered[len(ordered) // 2] / leg.timing.images
        found.append(Entry(key, value, f"{value:.4g}"))
    if speed is not None or main.candidate is None:
        key = "throughput_images_per_second"
        return [*found, Entry(key, why=f"missing.{(speed or missing.Missing.ENDED).value}")]
    value = main.candidate.timing.images_per_second
    return [*found, Entry("throughput_images_per_second", value, f"{value:.1f}")]


def _none(key: str, main: CaseRecord) -> Entry:
    judged = main.budgets or main.status is Status.PASS
    return Entry(key, why="missing.no_classifier" if judged else "missing.ended")


def _english(one: Entry, found: Port) -> str:
    return str(Texts("en").because(one.why, found.main))
