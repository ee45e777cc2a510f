"""What operators one by one can say alone: where a module's end has nothing to be held against.

A single input shows no difference between inputs, and a module that does not run in float64 has no
oracle.  Each operator was compared on its own input, with an oracle and a budget of its own, so
that where **all** of them were, something was judged that could have failed.
"""

from __future__ import annotations

from harness.judgement.operator_rows import OperatorCheck
from harness.system.status import Finding, Stage, Status


def judge(check: OperatorCheck | None, why: str) -> tuple[list[Finding], list[str]]:
    """Findings and notes on a module for which `why`, a sentence, asks for its operators.

    `check`: None where none were compared.  What exceeds its budget is a finding elsewhere.
    """
    if check is not None and check.complete:
        note = f"{why} It was judged by its {check.compared} operators, each on its own input."
        return [], [note]
    if check is None or not check.compared:
        reason = f"{why} None of its operators was compared either: there is no evidence."
    else:
        left = ", ".join(f"{count} ({reason})" for reason, count in check.left_out.items())
        reason = (
            f"{why} Of its operators {check.compared} were compared and agree as far as they may, "
            f"others were not: {left}."
        )
    return [Finding(Status.INCONCLUSIVE, Stage.REFERENCE, reason)], []
