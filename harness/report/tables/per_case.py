"""Tables of a record, as text cells; the documented ones first, shaped as documented."""

from __future__ import annotations

import collections
from collections.abc import Sequence

from harness.judgement import operator_rows
from harness.judgement.documented import ERROR_RATE_LIMIT_PERCENT
from harness.records.lines import CaseRecord
from harness.report.tables import cells, detection, performance, provenance, shares
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
    quotient,
    ratio,
    tabulated,
)
from harness.system import shown
from harness.system.status import Status


def accuracy(case: CaseRecord) -> Table | None:
    """The documented accuracy table."""
    gate = case.gate
    if gate is None:
        return None
    said = ", all values equal" * equal(case)
    agreement = f"{gate.top1_agreement_percent:.1f} % ({gate.top1_matches}/{gate.images})"
    return Table(
        label(case, "Accuracy"),
        ("metric", "value"),
        (
            ("mean cosine similarity", cosine(gate.mean_cosine) + said),
            ("MAE", fixed(gate.mae, 6) + said),
            ("error rate", gate_error_rate(gate) + said),
            ("Top-1 agreement", agreement),
        ),
    )


def per_image(case: CaseRecord) -> Table | None:
    """The documented per-image table."""
    if case.gate is None:
        return None
    return tabulated(
        label(case, "Per image"),
        case.gate.rows,
        ("image", lambda row: str(row.image)),
        ("CPU Top-1", lambda row: str(row.cpu_top1)),
        (f"{device_word(case)} Top-1", lambda row: str(row.device_top1)),
        ("match", lambda row: "yes" if row.match else "NO"),
        ("cosine", lambda row: cosine(row.cosine)),
    )


def margins(case: CaseRecord) -> Table | None:
    """What each image was and how far its Top-1 is from flipping."""
    if case.gate is None:
        return None
    return tabulated(
        label(case, "Per image: Top-1 margin against error, in logits"),
        case.gate.rows,
        ("image", lambda row: str(row.image)),
        ("name", lambda row: row.label),
        ("CPU Top-1 margin", lambda row: f"{row.margin:.4g}"),
        ("greatest logit error", lambda row: f"{row.max_abs_error:.3g}"),
    )


def outputs(case: CaseRecord) -> Table | None:
    """Errors of every output, on the raw values."""
    if not case.outputs:
        return None
    return tabulated(
        label(case, "Outputs, device against CPU"),
        case.outputs,
        ("output", lambda o: o.name),
        ("shape", lambda o: " x ".join(map(str, o.shape))),
        ("smallest cosine", lambda o: cosine(o.min_cosine)),
        ("max abs", lambda o: f"{o.max_abs_error:.3g}"),
        ("mean abs", lambda o: f"{o.mean_abs_error:.3g}"),
        ("rmse", lambda o: f"{o.rmse:.3g}"),
        ("nrmse", lambda o: f"{o.nrmse:.3g}"),
        ("norm ratio", lambda o: f"{o.norm_ratio:.6f}"),
    )


def equal(case: CaseRecord) -> bool:
    """Whether device and CPU gave the same values, all of them, in every output."""
    return bool(case.outputs) and all(output.max_abs_error == 0 for output in case.outputs)


def budget(case: CaseRecord) -> Table | None:
    """Is the device as good as its arithmetic allows?"""
    if not case.budgets:
        return None
    return tabulated(
        label(case, f"Error against float64, judged for {case.arithmetic}"),
        case.budgets,
        ("output", lambda row: row.name),
        ("budget ratio", lambda row: f"{row.ratio:.3g}"),
        ("worst image", lambda row: f"{max(row.image_ratios):.3g}"),
        ("worst channel", lambda row: f"{row.slice_ratio:.3g}" if row.worst_slice else "none"),
        ("allowed", lambda row: f"{row.limit:g}"),
        ("nrmse device", lambda row: f"{row.device.nrmse:.3g}"),
        ("nrmse CPU", lambda row: f"{row.cpu.nrmse:.3g}"),
        ("nrmse budget", lambda row: f"{row.budget_nrmse:.3g}"),
        ("max abs device", lambda row: f"{row.device.max_abs:.3g}"),
        ("max abs CPU", lambda row: f"{row.cpu.max_abs:.3g}"),
    )


def image_errors(case: CaseRecord) -> Table | None:
    """Both sides against float64, image by image."""
    if not case.budgets:
        return None
    return tabulated(
        label(case, "Error against float64, image by image"),
        [(row, image, name) for row in case.budgets for image, name in enumerate(case.labels)],
        ("output", lambda at: at[0].name),
        ("image", lambda at: at[2]),
        ("rmse device", lambda at: f"{at[0].device.image_rmse[at[1]]:.3g}"),
        ("rmse CPU", lambda at: f"{at[0].cpu.image_rmse[at[1]]:.3g}"),
        ("max abs device", lambda at: f"{at[0].device.image_max_abs[at[1]]:.3g}"),
        ("max abs CPU", lambda at: f"{at[0].cpu.image_max_abs[at[1]]:.3g}"),
        ("budget ratio", lambda at: f"{at[0].image_ratios[at[1]]:.3g}"),
    )


def operators(case: CaseRecord) -> Table | None:
    """Which operator is wrong on the reference's own input: the worst five."""
    check = case.operators
    if check is None:
        return None
    return tabulated(
        label(
            case,
            f"Operators one by one: {check.compared} of {check.total} compared, "
            f"{check.culprits} exceed their format; the worst",
        ),
        check.worst[:5],
        ("call", lambda row: str(row.index)),
        ("operator", lambda row: row.operator),
        ("module", lambda row: row.module),
        ("inputs", lambda row: ", ".join(row.shapes)),
        ("ratio", lambda row: f"{row.ratio:.3g}"),
        ("worst slice", lambda row: f"{row.worst_slice_ratio:.3g}"),
        ("NaN, Inf", lambda row: str(row.nonfinite)),
        ("culprit", lambda row: cells.culprit(row) if operator_rows.culprits([row]) else "no"),
    )


def standard(case: CaseRecord) -> Table | None:
    """The compared operators by CANN's own accuracy standards; only where that was asked for."""
    check = case.operators
    if check is None or not check.standard:
        return None
    return tabulated(
        label(case, "Operators by CANN's own accuracy standards: information, no verdict"),
        check.standard,
        ("operator", lambda row: row.operator),
        ("calls", lambda row: str(row.calls)),
        ("level of the worst", lambda row: row.worst.level),
        ("levels", lambda row: ", ".join(f"{n} {level}" for level, n in row.levels.items())),
        ("MARE ratio", lambda row: quotient(row.worst.mare_ratio)),
        ("MERE ratio", lambda row: quotient(row.worst.mere_ratio)),
        ("RMSE ratio", lambda row: quotient(row.worst.rmse_ratio)),
        ("small values", lambda row: str(row.worst.small)),
        ("small value ratio", lambda row: quotient(row.worst.small_ratio)),
        ("ecosystem rule", lambda row: f"{row.ecosystem} of {row.calls} calls"),
        ("vendor's CPU test", lambda row: "leaves it out" if row.left_out else "not left out"),
    )


def discrimination(case: CaseRecord) -> Table | None:
    """Could this case have failed?"""
    d, apart = case.discrimination, case.separation
    rows = []
    if apart is not None:
        pair = f"images {apart.first} and {apart.second}, {apart.output}"
        what = f"least distance of two images, over the greatest error that passes ({pair})"
        rows.append((what, f"{apart.distance:.4g}"))
    if d is not None:
        rows += [
            ("greatest softmax cosine between two different images", cosine(d.max_cosine)),
            ("different Top-1 classes", f"{d.distinct_top1} in {d.images} images"),
            ("logit spread between images", f"{d.logit_spread:.4g}"),
            ("smallest Top-1 margin (logits)", f"{d.min_margin:.4g}"),
            ("greatest probability", f"{d.max_probability:.4f}"),
        ]
    if not rows:
        return None
    title = "Discrimination of the inputs, measured on the CPU"
    return Table(title, ("metric", "value"), tuple(rows))


def documented(case: CaseRecord) -> list[Table]:
    """The tables that a report of this field must hold, as far as they were measured."""
    # Nothing is documented for the speed of a module of the user's own on a few inputs.
    speed = None if case.case.model.kind == "module" else performance.documented(case)
    found = (accuracy(case), per_image(case), speed)
    return [table for table in found if table is not None]


def everything(case: CaseRecord) -> list[Table]:
    """All tables of a case."""
    more = (
        budget(case),
        shares.of_plan(case),
        shares.greatest(case),
        shares.blocks(case),
        operators(case),
        standard(case),
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
    return tabulated(
        "Cases",
        cases,
        ("case", lambda case: case.case_id),
        ("status", lambda case: case.status.value),
        ("budget ratio", lambda case: ratio(case.budget_ratio)),
        ("error rate", lambda case: gate_error_rate(case.gate)),
        ("Top-1", lambda case: gate_top1(case.gate)),
        ("max cosine between images", _max_cosine),
        ("stage", lambda case: case.stage.value if case.stage else "complete"),
        ("device", _device_cell),
    )


PROTOCOL_ALONE = " The port protocol alone would have passed it."


def conclusion(case: CaseRecord) -> str:
    """One sentence that follows from the status and the numbers alone."""
    gate = case.gate
    if case.status is not Status.PASS:
        alone = PROTOCOL_ALONE * bool(gate and gate.passed)
        return shown.line(label(case, f"{case.status.value}: {case.reason}{alone}"))
    if equal(case):
        return label(case, "passed: device and CPU are equal in every value of every output.")
    if case.case.model.kind == "module":
        return label(case, "passed: every output is as right as its arithmetic allows.")
    if gate is None:
        return label(case, "passed: every output agrees; no classifier, so no Top-1.")
    agree = f"probabilities and Top-1 ({gate_top1(gate)}) agree."
    if gate.top1_matches < gate.images:
        agree = f"probabilities agree, Top-1 in {gate_top1(gate)}: the notes say why that may be."
    return label(
        case,
        f"passed: error rate {gate_error_rate(gate)} is below the "
        f"{ERROR_RATE_LIMIT_PERCENT:g} % threshold; {agree}",
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


def _max_cosine(case: CaseRecord) -> str:
    return f"{case.discrimination.max_cosine:.4f}" if case.discrimination else NOT_MEASURED


def _device_cell(case: CaseRecord) -> str:
    if case.candidate is None:
        return EMULATED if case.emulated else "did not run"
    return case.candidate.device.shown
