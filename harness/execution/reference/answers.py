"""What the CPU's side says of one request; loads no torch."""

from __future__ import annotations

import dataclasses

from harness.execution.legs import LegResult
from harness.judgement.budget import Budget
from harness.judgement.metrics import Array


@dataclasses.dataclass(frozen=True)
class Answers:
    """All that the CPU has to say of one request, for the verdict.

    `oracle`: with the device's form of GELU; `as_asked`: as the model has it, where that differs.
    """

    reference: LegResult
    oracle: dict[str, Array]
    as_asked: dict[str, Array] | None
    budget: Budget
