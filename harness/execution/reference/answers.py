"""What the CPU's side says of one request; loads no torch."""

from __future__ import annotations

import dataclasses

from harness.execution.legs import LegResult
from harness.judgement.budget import Budget
from harness.judgement.metrics import Array
from harness.system.messages import Said


@dataclasses.dataclass(frozen=True)
class Answers:
    """All that the CPU has to say of one request, for the verdict.

    `oracle`: with the device's form of GELU; `as_asked`: as the model has it, where that differs.
    `no_oracle`: why a module of the user's own has neither oracle nor budget.
    """

    reference: LegResult
    oracle: dict[str, Array] | None = None
    as_asked: dict[str, Array] | None = None
    budget: Budget | None = None
    no_oracle: Said | None = None
