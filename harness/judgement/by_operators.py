"""What operators one by one can say alone: where a module's end has nothing to be held against.

A single input shows no difference between inputs, and a module that does not run in float64 has no
oracle.  Each operator was compared on its own input, with an oracle and a budget of its own, so
that where **all** of them were, something was judged that could have failed.
"""

from __future__ import annotations

from harness.judgement.operator_rows import OperatorCheck
from harness.system.messages import Said, join, listed, say
from harness.system.status import Finding, Stage, Status


def judge(check: OperatorCheck | None, why: Said) -> tuple[list[Finding], list[Said]]:
    """Findings and notes on a module for which `why`, a sentence, asks for its operators.

    `check`: None where none were compared.  What exceeds its budget is a finding elsewhere.
    """
    if check is not None and check.complete:
        english = "It was judged by its {count} operators, each on its own input."
        return [], [join(why, say("operators.instead", english, count=check.compared))]
    if check is None or not check.compared:
        english = "None of its operators was compared either: there is no evidence."
        reason = join(why, say("operators.none", english))
    else:
        left = listed(
            [
                say("operators.left", "{count} ({reason})", count=count, reason=reason)
                for reason, count in check.left_out.items()
            ]
        )
        reason = join(
            why,
            say(
                "operators.some",
                "Of its operators {count} were compared and agree as far as they may, others were "
                "not: {left}.",
                count=check.compared,
                left=left,
            ),
        )
    return [Finding(Status.INCONCLUSIVE, Stage.REFERENCE, reason)], []
