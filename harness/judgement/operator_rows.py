"""Rows of the operator comparison and what counts as a culprit; no torch here.

`harness/execution/operators/comparison.py` makes the rows and says where the limits come from.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Iterable, Mapping

from harness.judgement import vendor_standard
from harness.judgement.vendor_standard import StandardRow, Standing
from harness.system.messages import say

# Why a call that cannot be compared is none that should be: it has no numbers of its own.
NO_LAYER = ("view", "uninitialised memory", "no tensor result")
EMPTY = "empty result"
NO_KERNEL = say("skipped.no_kernel", "the device has no kernel: it would run on the CPU")
RATIO_LIMIT = 3.0  # of a whole result; rounding by truncation averages 1.6
SLICE_RATIO_LIMIT = 4.0  # of any slice; a faithfully rounded result has at most 2 sqrt(3) = 3.46
AS_CANN = "as CANN computes it"


@dataclasses.dataclass(frozen=True)
class CannMethod:
    """A culprit beside the method that CANN publishes for it, in which the CPU computed it again.

    `agrees`: whether the device's result is within the limits of a culprit of the method's result.
    `what`: what is particular about the method; `source`, `address`: where it is published.
    `ratio`, `worst_slice_ratio`, `nonfinite`: as of an `OperatorRow`, against the method's result.
    """

    agrees: bool
    what: str
    source: str
    address: str
    ratio: float
    worst_slice_ratio: float
    nonfinite: int = 0

    @property
    def verdict(self) -> str:
        """In a few words."""
        return AS_CANN if self.agrees else f"not {AS_CANN}"

    def __str__(self) -> str:
        key, verdict = (
            ("operators.as_cann", "As CANN computes it")
            if self.agrees
            else ("operators.not_as_cann", "Not as CANN computes it")
        )
        return say(
            key,
            verdict + " ({what}; {source}): from that its error is {ratio} times its budget, "
            "{slice_ratio} times in a slice{nonfinite}.",
            what=self.what,
            source=self.source,
            ratio=f"{self.ratio:.3g}",
            slice_ratio=f"{self.worst_slice_ratio:.3g}",
            nonfinite=(
                say("operators.otherwise", ", {count} NaN or infinite otherwise",
                    count=self.nonfinite)
                if self.nonfinite
                else ""
            ),
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class OperatorRow:
    """One operator call of the reference model and what the device made of it.

    `index`: place in the order of execution.  `operator`: "aten::convolution.default".  `module`:
    path of the innermost module, with "#2" for its second call in the pass; "(model)" outside of
    all.  `shapes`: of the tensor arguments, "4x3x224x224".  `dtype`: of the result on the device.
    `memory_format`: of the first tensor argument, "contiguous", "channels_last" or "strided".
    `arithmetic`: what is declared for this call, "float32", "float32 with HF32", "float16".
    `outputs`: shapes of the results.  `unstable`: elements that differed between repeated runs.
    `own_rmse`, `budget_rmse`, `reference_rms`: in the unit of the result; NaN when skipped.
    `inherited_rmse`: of the activation in the device's own forward pass against the reference's;
    `inherited_budget_rmse`: what honest rounding in the declared arithmetic has grown to there;
    NaN where that was not asked for (see `localize.py`).
    `ratio`, `worst_slice_ratio`, `nonfinite`: see `operator_error.OwnError`; of several results the
    worst.  `skipped`: "", or why the call was not compared.  `worst_slice`: "dimension 1, index
    31", "" when the result has fewer than two dimensions.  `standing`: by CANN's own standards,
    where that was asked for.  `source`: file and line of the model's own code that made the call,
    "timm/models/resnet.py:231"; "" where none is known.  `method`: of a culprit on an NPU, how it
    stands by CANN's published method; None where nothing particular is published.
    """

    index: int
    operator: str
    module: str
    shapes: tuple[str, ...]
    dtype: str
    memory_format: str
    arithmetic: str = ""
    outputs: tuple[str, ...] = ()
    own_rmse: float = math.nan
    budget_rmse: float = math.nan
    reference_rms: float = math.nan
    ratio: float = math.nan
    worst_slice_ratio: float = math.nan
    nonfinite: int = 0
    unstable: int = 0
    skipped: str = ""
    worst_slice: str = ""
    inherited_rmse: float = math.nan
    inherited_budget_rmse: float = math.nan
    standing: Standing | None = None
    source: str = ""
    method: CannMethod | None = None

    @property
    def severity(self) -> float:
        """How far beyond the limits: above 1 is a culprit; NaN when skipped."""
        if self.nonfinite or self.unstable:
            return math.inf
        return max(self.ratio / RATIO_LIMIT, self.worst_slice_ratio / SLICE_RATIO_LIMIT)

    @property
    def inherited_ratio(self) -> float:
        """Inherited error in units of its budget."""
        if not self.inherited_rmse:
            return 0.0
        return self.inherited_rmse / (self.inherited_budget_rmse or 5e-324)


@dataclasses.dataclass(frozen=True)
class OperatorCheck:
    """Summary of an operator comparison: what was looked at and the worst that was found.

    `share`: as asked for, None for the usual choice; `total`: operator calls of the forward pass;
    `compared`: those that ran on both sides; `worst`: the compared rows with the greatest severity,
    the worst first; `left_out`: why others that have a result were not compared -> how many;
    `standard`: all compared calls by CANN's own standards, a row an operator, where that was asked
    for; `as_cann`: how many of the culprits are computed by CANN's published method.
    """

    share: float | None
    total: int
    compared: int
    culprits: int
    worst: tuple[OperatorRow, ...]
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)
    standard: tuple[StandardRow, ...] = ()
    as_cann: int = 0

    @property
    def complete(self) -> bool:
        """Whether every operator with a result was compared, and there was one."""
        return self.compared > 0 and not self.left_out


def compared(rows: Iterable[OperatorRow]) -> list[OperatorRow]:
    """The rows that were compared."""
    return [row for row in rows if not row.skipped]


def culprits(
    rows: Iterable[OperatorRow],
    *,
    ratio_limit: float = RATIO_LIMIT,
    slice_limit: float = SLICE_RATIO_LIMIT,
) -> list[OperatorRow]:
    """Rows that no honest rounding explains, the worst first.

    They are beyond a limit, have NaN or Inf that the reference has not, or differ when repeated.
    """
    # Written so that a NaN ratio of a compared row is a culprit.
    found = [
        row
        for row in compared(rows)
        if row.nonfinite
        or row.unstable
        or not (row.ratio <= ratio_limit and row.worst_slice_ratio <= slice_limit)
    ]
    return sorted(found, key=lambda row: (-row.severity, row.index))


def ranked(rows: Iterable[OperatorRow]) -> list[OperatorRow]:
    """All compared rows, culprits first, then by how near they come to a limit."""
    rows = compared(rows)
    found = culprits(rows)
    named = {row.index for row in found}
    rest = [row for row in rows if row.index not in named]
    return found + sorted(rest, key=lambda row: (-row.severity, row.index))


def summarise(rows: Iterable[OperatorRow], share: float | None, *, keep: int = 10) -> OperatorCheck:
    """Summarise all rows of a comparison; culprits come first among the `keep` worst."""
    rows = list(rows)
    worst = ranked(rows)
    found = culprits(rows)
    return OperatorCheck(
        share=share,
        total=len(rows),
        compared=len(worst),
        culprits=len(found),
        as_cann=sum(row.method is not None and row.method.agrees for row in found),
        worst=tuple(worst[:keep]),
        left_out=collections.Counter(
            row.skipped for row in rows if row.skipped and row.skipped not in (*NO_LAYER, EMPTY)
        ),
        standard=vendor_standard.summarise(
            (row.operator, row.standing) for row in worst if row.standing is not None
        ),
    )
