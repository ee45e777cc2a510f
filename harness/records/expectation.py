"""Rows of expected results and what became of them in a run; nothing is read or compared here."""

from __future__ import annotations

import enum
from typing import Annotated

import pydantic

from harness.system.status import Status


class Outcome(enum.Enum):
    """What a case came to beside its expected row."""

    SAME = "as expected"
    KNOWN = "known failure"  # the very failure that the row records
    NEW = "new"  # there is no row
    IMPROVED = "improved"
    WORSE = "worse"
    UNJUDGED = "not judged"  # infrastructure trouble: no verdict to compare
    UPDATED = "updated"  # the row was, or is to be, rewritten: never a pass


class ExpectedRow(pydantic.BaseModel):
    """What one case is expected to give; a number left out is not compared.

    `budget_ratio`: greatest over outputs and images, as in the overview; `error_rate_percent`,
    `top1` ("6/6"): of the protocol's gate; `speed_ratio`: device throughput over the CPU's,
    informative, never compared.  `tolerance`: factor that replaces the standard one for the
    budget ratio.  `loosened`: which numbers of the row were moved for the worse, and how far.
    `as_cann`: every culprit of the known failure is computed by CANN's published method; one that
    is not is another failure.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
    status: Status
    budget_ratio: float | None = None
    error_rate_percent: float | None = None
    top1: Annotated[str, pydantic.Field(pattern=r"^\d+/\d+$")] | None = None
    speed_ratio: float | None = None
    tolerance: Annotated[float, pydantic.Field(gt=1, allow_inf_nan=False)] | None = None
    loosened: str = ""
    as_cann: bool = False
    reason: str = ""
    link: str = ""

    @pydantic.model_validator(mode="after")
    def _explained(self) -> ExpectedRow:
        if self.status is Status.SKIP:
            raise ValueError("a skipped case has no result to expect: remove the row")
        if not self.status.is_pass and not (self.reason.strip() and self.link.strip()):
            raise ValueError(
                f"a known failure ({self.status.value}) needs a reason and a link that explain it"
            )
        if self.is_loosened and not self.reason.strip():
            raise ValueError("a loosened row (tolerance, loosened) needs a reason")
        return self

    @property
    def is_loosened(self) -> bool:
        """Whether the row allows more than it did, or more than the standard tolerance."""
        return self.tolerance is not None or bool(self.loosened)


class Expectation(pydantic.BaseModel):
    """A case beside its row; `sentence` says what differs and how to accept it.

    `row`: the expected row; with outcome `updated` the row that replaces it.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")
    outcome: Outcome
    sentence: str = ""
    row: ExpectedRow | None = None
