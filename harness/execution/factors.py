"""To how many bits a device rounds the factors of convolutions and matrix products, for a leg.

Settings declare HF32 or TF32; what a chip makes of them is measured (`probes/rounding`).  Only
forms that are published for the declared format are taken as its arithmetic
(`judgement/published`).  Anything else, and any shortening where float32 is declared, is named and
widens no budget.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from harness.execution.probes import rounding, summation
from harness.execution.probes.rounding import Unknown
from harness.judgement import published
from harness.judgement.arithmetic import FULL_BITS, Factors, declared
from harness.system.messages import Said, say


def measure(
    device: torch.device, numerics: Mapping[str, str], chip: str
) -> tuple[dict[str, str], list[Said]]:
    """Settings to add to `numerics`, which declare what was measured, and what is not declared.

    `numerics`: as the device has them, float32 on both sides of a product; `chip`: its name.
    """
    arithmetic = declared("float32", numerics)
    found, undeclared = {}, []
    for operator in summation.of_device(device, torch.float32):
        if operator.name not in published.PARTS:
            continue
        part, kind = published.PARTS[operator.name]
        left, right = rounding.of_factors(operator)
        if left == right and left in published.factors(operator.name, numerics, chip):
            found[f"{part}.factors"] = str(left)
        elif not left == right == Factors(FULL_BITS):
            undeclared.append(
                say(
                    "arithmetic.undeclared",
                    "The device's {kind} rounds its float32 factors {seen}, where {declared} is "
                    "declared (measured on it after the forward).",
                    kind=say(f"kind.{kind}", kind),
                    seen=_words(left, right),
                    declared=arithmetic.of(kind),
                )
            )
    return found, undeclared


def _words(left: rounding.Form, right: rounding.Form) -> str:
    """How both factors are rounded, to stand behind a verb."""

    def one(form: rounding.Form) -> str:
        if isinstance(form, Unknown):
            return str(form)
        return say("factors.to", "to {form}", form=form)

    if left == right:
        return one(left)
    both = "{left} (left) and {right} (right)"
    return say("factors.both", both, left=one(left), right=one(right))
