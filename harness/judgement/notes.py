"""What is said beside a verdict, for or against nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.judgement import metrics
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.budget import Allowance, OutputBudget
from harness.judgement.metrics import Array
from harness.judgement.operator_rows import OperatorCheck
from harness.system.messages import Said, say


def of_format(
    arithmetic: Arithmetic, budgets: Sequence[OutputBudget], check: OperatorCheck | None
) -> list[Said]:
    """What a format's noise hides; `check`: the device's operators one by one."""
    if arithmetic.full:
        return []
    noise = max(row.budget_nrmse for row in budgets)
    more = (
        say(
            "format.operators",
            "end to end; of its operators {compared} of {total} were compared one by one",
            compared=check.compared,
            total=check.total,
        )
        if check
        else say("format.case", "in this case")
    )
    return [
        say(
            "format.noise",
            "Faults smaller than the noise of {arithmetic} (nrmse {nrmse} on this model) cannot "
            "be seen {more}. Float32 with --numerics strict sees them.",
            arithmetic=arithmetic,
            nrmse=f"{noise:.2g}",
            more=more,
        )
    ]


def of_form(
    gelu: str, as_asked: Mapping[str, Array] | None, allowed: Mapping[str, Allowance], remedy: str
) -> list[Said]:
    """What another form of GELU changes, which is no rounding and is in no budget.

    `as_asked`: float64 outputs [N, ...] in the form that the model asks for, None where the device
    computes that; `remedy`: how to have it do so.
    """
    if as_asked is None:
        return []
    cost = max(
        metrics.quotient(metrics.rmse(own.oracle, as_asked[name]), own.spread)
        for name, own in allowed.items()
    )
    return [
        say(
            "gelu.form",
            "The device computes every gelu in its {form} form where the model asks for another "
            "(measured on it after the forward), and is judged for that form. The form alone "
            "changes the outputs by nrmse {nrmse}{remedy}.",
            form=gelu,
            nrmse=f"{cost:.2g}",
            remedy=say("gelu.semicolon", "; {remedy}", remedy=remedy) if remedy else "",
        )
    ]
