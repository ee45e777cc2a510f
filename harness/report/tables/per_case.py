"""Tables of a record, as text cells; the documented ones first, shaped as documented."""

from __future__ import annotations

import collections
from collections.abc import Sequence

from harness.judgement.documented import ERROR_RATE_LIMIT_PERCENT
from harness.records.lines import CaseRecord
from harness.report.tables import detection, performance, provenance
from harness.report.tables.cells import (
    EMULATED,
    NOT_MEASURED,
    Table,
    caveat,
    cosine,
    device_word,
    fixed,
    gate_error_rate,
    gate_top1,
    label,
    ratio,
)
from harness.system.status import Status


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
            ("error rate", gate_error_rate(gate)),
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


def documented(case: CaseRecord) -> list[Table]:
    """The tables that a report of this field must hold, as far as they were measured."""
    found = (accuracy(case), per_image(case), performance.documented(case))
    return [table for table in found if table is not None]


def everything(case: CaseRecord) -> list[Table]:
    """All tables of a case."""
    more = (
        budget(case),
        operators(case),
        discrimination(case),
        detection.table(case),
        margins(case),
        image_errors(case),
        outputs(case),
        provenance.table(case),
    )
    return documented(case) + [table for table in more if table is not None]


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
                ratio(case.budget_ratio),
                gate_error_rate(case.gate),
                gate_top1(case.gate),
                f"{case.discrimination.max_cosine:.4f}" if case.discrimination else NOT_MEASURED,
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
        f"passed: error rate {gate_error_rate(gate)} is below the "
        f"{ERROR_RATE_LIMIT_PERCENT:g} % threshold; probabilities and Top-1 "
        f"({gate_top1(gate)}) agree.",
    )


def top_line(cases: Sequence[CaseRecord], missing: Sequence[str] = ()) -> str:
    """The run in one line."""
    if not cases and not missing:
        return "No case was run."
    counts = collections.Counter(case.status for case in cases)
    parts = [f"{counts[status]} {status.value}" for status in Status if counts[status]]
    if missing:
        parts.append(f"{len(missing)} missing")
    count = len(cases) + len(missing)
    text = f"{count} case{'s' * (count != 1)}: {', '.join(parts)}"
    return text + caveat(any(case.emulated for case in cases))


def _device_cell(case: CaseRecord) -> str:
    if case.candidate is None:
        return EMULATED if case.emulated else "did not run"
    device = case.candidate.device
    return device.name + f" {EMULATED}" * device.emulated
