"""Which planted faults the verdict of a case would have shown, as data."""

from __future__ import annotations

import dataclasses

from harness.system import messages
from harness.system.messages import Message
from harness.system.status import Status


@dataclasses.dataclass(frozen=True)
class FaultRow:
    """One fault and what became of it.

    `call` of `calls` of `operator` in a forward pass, from 1 (0: every one).  `effective`: it
    acted and changed at least one bit of the outputs; else it is no fault on this model and these
    images.  `gate_passed`: the protocol's gate; None for a model without a classifier.  `status`:
    this harness.  `ratio`: greatest budget ratio of the outputs, None where there is none to take
    (NaN, Inf, an error); `limit`: what it may be.
    """

    fault: str
    depth: str
    operator: str
    call: int
    calls: int
    effective: bool
    gate_passed: bool | None
    status: Status
    ratio: float | None
    limit: float | None

    @property
    def missed(self) -> bool:
        """Whether this harness let an effective fault through."""
        return self.effective and self.status in (Status.PASS, Status.SKIP)

    @property
    def inconclusive(self) -> bool:
        """Whether this harness declined to judge: not accepted, and not found either."""
        return self.effective and self.status is Status.INCONCLUSIVE

    @property
    def missed_by_gate(self) -> bool:
        """Whether the protocol's gate let an effective fault through."""
        return self.effective and self.gate_passed is True

    @property
    def place(self) -> str:
        """Operator and call, "Convolution 41 of 81"."""
        which = f"{self.call} of {self.calls}" if self.call else f"all {self.calls}"
        return f"{self.operator} {which}"


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """What a case would have shown.

    `means`: where the faults were planted; `clean`: status of the run without any fault.
    `weight_error`: smallest relative error of the weight at `weight_place` that this harness
    catches (an upper bound from bisection); None: not even its loss, or no weight.
    `problem`: why nothing was measured, else "", and `problem_messages` what that says, by id.
    """

    means: str
    emulated: bool
    clean: Status
    clean_ratio: float | None
    rows: tuple[FaultRow, ...] = ()
    weight_error: float | None = None
    weight_place: str = ""
    problem: str = ""
    problem_messages: tuple[Message, ...] = ()

    def __post_init__(self) -> None:
        messages.put_beside(self, "problem", "problem_messages")

    @property
    def effective(self) -> int:
        """Faults that changed the outputs."""
        return sum(row.effective for row in self.rows)

    @property
    def missed_by_gate(self) -> int:
        """Effective faults that the protocol's gate passed."""
        return sum(row.missed_by_gate for row in self.rows)

    @property
    def missed(self) -> int:
        """Effective faults that this harness passed."""
        return sum(row.missed for row in self.rows)

    @property
    def inconclusive(self) -> int:
        """Effective faults on which this harness declined to judge."""
        return sum(row.inconclusive for row in self.rows)
