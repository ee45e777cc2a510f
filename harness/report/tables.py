"""Tables of a record, as text cells; the documented ones first, shaped as documented."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Sequence

from harness.gate import ERROR_RATE_LIMIT_PERCENT
from harness.records import CaseRecord
from harness.status import Status

EMULATED = "EMULATED"
_MINUTE = "%Y-%m-%d %H:%M UTC"
_DOCUMENTED_IMAGES, _DOCUMENTED_BATCH = 6, 8


@dataclasses.dataclass(frozen=True)
class Table:
    """A titled table; every row has as many cells as the header."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"{self.title}: row {row} does not fit header {self.header}")


def fixed(value: float, places: int) -> str:
    """Format with `places` decimals, as documented; a value that this would show as zero, or a
    cosine that it would show as one, keeps its digits: 0.000000 for a real error is untrue."""
    if not math.isfinite(value):
        return str(value)
    text = f"{value:.{places}f}"
    if value != 0 and float(text) == 0:
        return f"{value:.2e}"
    return text


def cosine(value: float) -> str:
    """Format a cosine with six decimals; one that differs from 1 but rounds to it says so."""
    text = f"{value:.6f}"
    # Below 1e-12 it is the rounding of the cosine's own float64 sums.
    if text == "1.000000" and value < 1.0 - 1e-12:
        return f"1.000000 (1 - {1.0 - value:.1e})"
    return text


def label(case: CaseRecord, text: str) -> str:
    """Add EMULATED to a title wherever the device was emulated."""
    return f"{text} [{EMULATED}]" if case.emulated else text


def device_word(case: CaseRecord) -> str:
    """What the device's columns are called: NPU as documented, else the kind of device."""
    kind = case.candidate.device.kind if case.candidate else "npu"
    return "NPU" if kind.startswith("npu") else kind.upper()


def accuracy(case: CaseRecord) -> Table | None:
    """The documented accuracy table."""
    gate = case.gate
    if gate is None:
        return None
    agreement = f"{gate.top1_agreement_percent:.1f} % ({gate.top1_matches}/{gate.images})"
    return Table(
        label(case, "Accuracy"),
        ("metric", "value"),
        (
            ("mean cosine similarity", cosine(gate.mean_cosine)),
            ("MAE", fixed(gate.mae, 6)),
            ("error rate", f"{fixed(gate.error_rate_percent, 4)} %"),
            ("Top-1 agreement", agreement),
        ),
    )


def per_image(case: CaseRecord) -> Table | None:
    """The documented per-image table."""
    if case.gate is None:
        return None
    return Table(
        label(case, "Per image"),
        ("image", "CPU Top-1", f"{device_word(case)} Top-1", "match", "cosine"),
        tuple(
            (
                str(row.image),
                str(row.cpu_top1),
                str(row.device_top1),
                "yes" if row.match else "NO",
                cosine(row.cosine),
            )
            for row in case.gate.rows
        ),
    )


def margins(case: CaseRecord) -> Table | None:
    """What each image was and how far its Top-1 is from flipping."""
    if case.gate is None:
        return None
    return Table(
        label(case, "Per image: Top-1 margin against error, in logits"),
        ("image", "name", "CPU Top-1 margin", "greatest logit error"),
        tuple(
            (str(row.image), row.label, f"{row.margin:.4g}", f"{row.max_abs_error:.3g}")
            for row in case.gate.rows
        ),
    )


def outputs(case: CaseRecord) -> Table | None:
    """Errors of every output, on the raw values."""
    if not case.outputs:
        return None
    return Table(
        label(case, "Outputs, device against CPU"),
        (
            "output",
            "shape",
            "smallest cosine",
            "max abs",
            "mean abs",
            "rmse",
            "nrmse",
            "norm ratio",
        ),
        tuple(
            (
                o.name,
                " x ".join(map(str, o.shape)),
                cosine(o.min_cosine),
                f"{o.max_abs_error:.3g}",
                f"{o.mean_abs_error:.3g}",
                f"{o.rmse:.3g}",
                f"{o.nrmse:.3g}",
                f"{o.norm_ratio:.6f}",
            )
            for o in case.outputs
        ),
    )


def budget(case: CaseRecord) -> Table | None:
    """Is the device as good as its arithmetic allows?"""
    if not case.budgets:
        return None
    return Table(
        label(case, f"Error against float64, judged for {case.arithmetic}"),
        (
            "output",
            "nrmse device",
            "nrmse CPU",
            "nrmse budget",
            "max abs device",
            "max abs CPU",
            "budget ratio",
            "worst image",
            "allowed",
        ),
        tuple(
            (
                row.name,
                f"{row.device.nrmse:.3g}",
                f"{row.cpu.nrmse:.3g}",
                f"{row.budget_nrmse:.3g}",
                f"{row.device.max_abs:.3g}",
                f"{row.cpu.max_abs:.3g}",
                f"{row.ratio:.3g}",
                f"{max(row.image_ratios):.3g}",
                f"{row.limit:g}",
            )
            for row in case.budgets
        ),
    )


def image_errors(case: CaseRecord) -> Table | None:
    """Both sides against float64, image by image."""
    if not case.budgets:
        return None
    return Table(
        label(case, "Error against float64, image by image"),
        (
            "output",
            "image",
            "rmse device",
            "rmse CPU",
            "max abs device",
            "max abs CPU",
            "budget ratio",
        ),
        tuple(
            (
                row.name,
                name,
                f"{row.device.image_rmse[image]:.3g}",
                f"{row.cpu.image_rmse[image]:.3g}",
                f"{row.device.image_max_abs[image]:.3g}",
                f"{row.cpu.image_max_abs[image]:.3g}",
                f"{row.image_ratios[image]:.3g}",
            )
            for row in case.budgets
            for image, name in enumerate(case.labels)
        ),
    )


def operators(case: CaseRecord) -> Table | None:
    """Which operator is wrong on the reference's own input: the worst five."""
    check = case.operators
    if check is None:
        return None
    return Table(
        label(
            case,
            f"Operators one by one: {check.compared} of {check.total} compared, "
            f"{check.culprits} exceed their format; the worst",
        ),
        ("call", "operator", "module", "inputs", "ratio", "worst slice", "NaN, Inf"),
        tuple(
            (
                str(row.index),
                row.operator,
                row.module,
                ", ".join(row.shapes),
                f"{row.ratio:.3g}",
                f"{row.worst_slice_ratio:.3g}",
                str(row.nonfinite),
            )
            for row in check.worst[:5]
        ),
    )


def discrimination(case: CaseRecord) -> Table | None:
    """Could this case have failed?"""
    d = case.discrimination
    if d is None:
        return None
    return Table(
        "Discrimination of the inputs, measured on the CPU",
        ("metric", "value"),
        (
            ("greatest cosine between two different images", cosine(d.max_cosine)),
            ("different Top-1 classes", f"{d.distinct_top1} in {d.images} images"),
            ("logit spread between images", f"{d.logit_spread:.4g}"),
            ("smallest Top-1 margin (logits)", f"{d.min_margin:.4g}"),
            ("greatest probability", f"{d.max_probability:.4f}"),
        ),
    )


def detection(case: CaseRecord) -> Table | None:
    """Which planted faults the documented gate and this harness let through."""
    found = case.sensitivity
    if found is None or not found.rows:
        return None
    word = {True: "PASSED", False: "failed", None: "does not apply"}
    return Table(
        label(case, f"Planted faults, {found.means}"),
        ("fault", "where", "documented gate", "this harness", "budget ratio"),
        tuple(
            (
                f"{row.fault}, {row.depth}",
                row.place,
                word[row.gate_passed] if row.effective else "no effect",
                ("PASSED" if row.missed else row.status.value) if row.effective else "no effect",
                "not a number" if row.ratio is None else f"{row.ratio:.3g}",
            )
            for row in found.rows
        ),
    )


def detection_line(case: CaseRecord) -> str | None:
    """Detection power in one sentence."""
    found = case.sensitivity
    if found is None:
        return None
    if found.problem:
        return label(case, f"Detection power not measured: {found.problem}")
    text = (
        f"Detection power: of {found.effective} faults that changed the outputs "
        f"({found.means}) the documented gate passed {found.missed_by_gate}, this harness "
        f"{found.missed} ({found.inconclusive} inconclusive); "
    )
    if found.weight_error is None:
        text += "no relative error of one weight up to 1 is caught."
    else:
        text += (
            f"one weight wrong by {found.weight_error:.2g} (relative) is caught "
            f"({found.weight_place})."
        )
    return label(case, text)


def performance(case: CaseRecord) -> Table | None:
    """The documented performance table; an emulated device gives no figure of merit."""
    if case.reference is None or case.candidate is None:
        return None
    cpu, device = case.reference.timing, case.candidate.timing
    word = device_word(case)
    protocol = (
        "documented protocol"
        if (device.images, device.batch_size) == (_DOCUMENTED_IMAGES, _DOCUMENTED_BATCH)
        else "not the documented protocol"
    )
    title = (
        f"Performance ({protocol}: {device.images} images, batch {device.batch_size}, "
        f"one warm-up, {len(device.forward_seconds)} timed)"
    )
    if case.emulated:
        none = f"none: an {EMULATED} device runs on this CPU"
        rows = ((f"{word} throughput", none), (f"CPU/{word} speed-up", none))
    else:
        ratio = device.images_per_second / cpu.images_per_second
        earlier = ", the CPU measured earlier" if cpu.cached else ""
        rows = (
            (f"{word} throughput", f"{device.images_per_second:.1f} img/s"),
            (f"CPU/{word} speed-up", f"{ratio:.1f} x{earlier}"),
        )
    reference = f"{cpu.images_per_second:.1f} img/s, {cpu.threads} threads"
    if cpu.cached_since is not None:
        reference += (
            f", measured when the reference was made ({cpu.cached_since:{_MINUTE}}, "
            f"{case.reference.device.name})"
        )
    return Table(label(case, title), ("metric", "value"), (*rows, ("CPU throughput", reference)))


def documented(case: CaseRecord) -> list[Table]:
    """The tables that a report of this field must hold, as far as they were measured."""
    found = (accuracy(case), per_image(case), performance(case))
    return [table for table in found if table is not None]


def everything(case: CaseRecord) -> list[Table]:
    """All tables of a case."""
    more = (
        budget(case),
        operators(case),
        discrimination(case),
        detection(case),
        margins(case),
        image_errors(case),
        outputs(case),
        provenance(case),
    )
    return documented(case) + [table for table in more if table is not None]


def provenance(case: CaseRecord) -> Table:
    """Where weights, inputs and settings came from."""
    rows = [
        ("weights", case.weights or "not loaded"),
        ("weights sha256", case.weights_sha256 or "not loaded"),
        ("inputs", case.inputs or "not prepared"),
        ("inputs sha256", case.inputs_sha256 or "not prepared"),
    ]
    rows += _side_rows(case)
    if case.candidate is not None:
        fallback = ", ".join(case.candidate.fallback_operators) or "none"
        rows.append(("operators that ran on the CPU instead", fallback))
        rows.append(("operators", _pairs({k: str(v) for k, v in case.candidate.operators.items()})))
    return Table("Provenance", ("item", "value"), tuple(rows))


def sides(cases: Sequence[CaseRecord]) -> Table:
    """Both sides of the run, as the first case that reached the device saw them."""
    reached = next((case for case in cases if case.candidate is not None), cases[0])
    return Table(label(reached, "Devices"), ("item", "value"), tuple(_side_rows(reached)))


def overview(cases: Sequence[CaseRecord]) -> Table:
    """One row a case."""
    return Table(
        "Cases",
        (
            "case",
            "status",
            "budget ratio",
            "error rate",
            "Top-1",
            "max cosine between images",
            "stage",
            "device",
        ),
        tuple(
            (
                case.case_id,
                case.status.value,
                "not measured" if case.budget_ratio is None else f"{case.budget_ratio:.3g}",
                f"{fixed(case.gate.error_rate_percent, 4)} %" if case.gate else "not measured",
                f"{case.gate.top1_matches}/{case.gate.images}" if case.gate else "not measured",
                f"{case.discrimination.max_cosine:.4f}" if case.discrimination else "not measured",
                case.stage.value if case.stage else "complete",
                _device_cell(case),
            )
            for case in cases
        ),
    )


def conclusion(case: CaseRecord) -> str:
    """One sentence that follows from the status and the numbers alone."""
    if case.status is not Status.PASS or case.gate is None:
        gate = case.gate
        documented_part = ""
        if gate is not None and gate.passed and case.status is not Status.PASS:
            documented_part = " The documented gate alone would have passed it."
        if case.status is Status.PASS:
            return label(case, "passed: every output agrees; no classifier, so no Top-1.")
        return label(case, f"{case.status.value}: {case.reason}{documented_part}")
    gate = case.gate
    return label(
        case,
        f"passed: error rate {fixed(gate.error_rate_percent, 4)} % is below the "
        f"{ERROR_RATE_LIMIT_PERCENT:g} % threshold; probabilities and Top-1 "
        f"({gate.top1_matches}/{gate.images}) agree.",
    )


def top_line(cases: Sequence[CaseRecord], missing: Sequence[str] = ()) -> str:
    """The run in one line."""
    if not cases and not missing:
        return "No case was run."
    counts = collections.Counter(case.status for case in cases)
    parts = [f"{counts[status]} {status.value}" for status in Status if counts[status]]
    if missing:
        parts.append(f"{len(missing)} missing")
    text = f"{len(cases) + len(missing)} cases: {', '.join(parts)}"
    if any(case.emulated for case in cases):
        text += f" - {EMULATED}: no evidence about NPU hardware"
    return text


def _side_rows(case: CaseRecord) -> list[tuple[str, str]]:
    rows = []
    for side, leg in (("CPU", case.reference), ("device", case.candidate)):
        if leg is None:
            rows.append((side, "did not run"))
            continue
        device = leg.device
        rows.append((side, f"{device.name} ({device.spec})" + (f" {EMULATED}" * device.emulated)))
        rows.append((f"{side} numerics, read back", _pairs(leg.numerics)))
        rows.append((f"{side} details", _pairs(device.details) or "none"))
        if leg.timing.cached_since is not None:
            made = f"{leg.timing.cached_since:{_MINUTE}}"
            rows.append((f"{side} answers", f"from the reference cache, made {made}"))
        if device.uuid:
            rows.append((f"{side} uuid", device.uuid))
    return rows


def _device_cell(case: CaseRecord) -> str:
    if case.candidate is None:
        return EMULATED if case.emulated else "did not run"
    device = case.candidate.device
    return f"{device.name} {EMULATED}" if device.emulated else device.name


def _pairs(values: dict[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())
