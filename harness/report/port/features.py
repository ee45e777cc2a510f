"""Tables of a model without a classifier, whose outputs are features: no softmax, no Top-1."""

from __future__ import annotations

from collections.abc import Sequence

from harness.judgement.image_errors import ELEMENT_LIMIT
from harness.records.lines import CaseRecord
from harness.report.port.score import main_output
from harness.report.port.texts import Texts
from harness.report.tables import cells
from harness.report.tables.cells import Table


def has(main: CaseRecord | None) -> bool:
    """Whether a case was judged by features alone."""
    return main is not None and main.gate is None and bool(main.outputs) and bool(main.budgets)


def table(main: CaseRecord, t: Texts) -> Table:
    """Every output: cosine, differences, relative error, nrmse and budget ratio."""
    budgets = {row.name: row for row in main.budgets}
    rows = []
    for output in main.outputs:
        budget = budgets.get(output.name)
        images = output.images
        cosine = sum(row.cosine for row in images) / len(images) if images else output.min_cosine
        relative = (
            f"{100 * max(row.relative for row in images):.4g} %"
            if images
            else t("missing.cell", why=t("missing.not_recorded"))
        )
        rows.append(
            (
                output.name,
                cells.cosine(cosine),
                f"{output.max_abs_error:.4g}",
                f"{output.mean_abs_error:.4g}",
                relative,
                f"{output.nrmse:.4g}",
                t("missing.cell", why=t("missing.not_judged"))
                if budget is None
                else t(
                    "features.within", ratio=f"{budget.worst_ratio:.3g}", limit=f"{budget.limit:g}"
                ),
            )
        )
    header = ("output", "mean_cosine", "max", "mean", "relative", "nrmse", "ratio")
    return Table(t("features.title"), tuple(t(f"features.{key}") for key in header), tuple(rows))


def per_image(main: CaseRecord, t: Texts) -> Table:
    """A row an image, of what the model itself returns."""
    output = main_output(main)
    rows = tuple(
        (
            str(number),
            cells.cosine(row.cosine),
            f"{row.max_abs:.4g}",
            f"{row.mean_abs:.4g}",
            f"{100 * row.relative:.4g} %",
        )
        for number, row in enumerate(output.images if output is not None else ())
    )
    header = (t("head.image"), t("head.cosine"))
    more = tuple(t(f"features.{key}") for key in ("max", "mean", "relative"))
    return Table("", header + more, rows)


def element_rule(main: CaseRecord, t: Texts) -> str:
    """The element-wise rule of 1 %, and why it misleads; "" where it was not measured."""
    output = main_output(main)
    rule = output.elements if output is not None else None
    if rule is None:
        return ""
    return t(
        "features.rule",
        limit=f"{100 * ELEMENT_LIMIT:g}",
        beyond=f"{100 * rule.beyond:.3g}",
        honest=f"{100 * rule.honest:.3g}",
        mean=f"{100 * rule.mean_relative:.3g}",
    )


def cases(found: Sequence[CaseRecord], t: Texts) -> Table:
    """All cases of the model, by what features have."""
    rows = []
    for case in found:
        output = main_output(case)
        assert output is not None
        ratio = case.budget_ratio
        cosine = output.min_cosine
        rows.append(
            (
                case.case_id,
                case.status.value,
                cells.cosine(cosine),
                f"{output.max_abs_error:.4g}",
                t("missing.cell", why=t("missing.not_judged")) if ratio is None else f"{ratio:.3g}",
            )
        )
    header = (t("head.case"), t("head.status"), t("features.least_cosine"), t("features.max"))
    return Table(t("conclusion.cases"), (*header, t("head.budget_ratio")), tuple(rows))
