"""What a localisation found; no torch here.  `harness/execution/localize.py` measures it."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from harness.judgement import budget, metrics, operator_rows
from harness.judgement.budget import OutputBudget
from harness.judgement.metrics import Array
from harness.judgement.operator_rows import OperatorRow
from harness.system import messages
from harness.system.messages import Message, Said, join, listed, say


@dataclasses.dataclass(frozen=True)
class Localization:
    """Own and inherited error of every operator of a forward pass, in order of execution.

    `arithmetic`: what the device declares, to show; `full`: whether that rounds as plain float32
    does.  `start`, `stop`: the case's images that went through, as one batch; `way`: how, "" for in
    order (`batchings.WAYS`); `repeats`: runs of
    each operator; `restarts`: results that the device's forward pass took from the reference,
    since its own did not fit.  `reproduced`: whether the pass, operator by operator, ended where
    the model's own forward pass did on the device; None when the two cannot be compared.
    `reproducers`: scripts, relative to the results; `note`: why there are none though they were
    wanted.  `problem`: why there are no rows, and `problem_messages` what that says, by id.
    """

    arithmetic: str = ""
    start: int = 0
    stop: int = 0
    rows: tuple[OperatorRow, ...] = ()
    repeats: int = 1
    restarts: int = 0
    reproduced: bool | None = None
    reproducers: tuple[str, ...] = ()
    note: str = ""
    seconds: float = 0.0
    problem: str = ""
    full: bool = False
    way: str = ""
    problem_messages: tuple[Message, ...] = ()

    def __post_init__(self) -> None:
        messages.put_beside(self, "problem", "problem_messages")

    @property
    def culprits(self) -> list[OperatorRow]:
        """Operators whose own error no honest rounding explains, the worst first."""
        return operator_rows.culprits(self.rows)

    @property
    def worst(self) -> list[OperatorRow]:
        """All compared operators, culprits first, then by how near they come to a limit."""
        return operator_rows.ranked(self.rows)

    @property
    def first_beyond(self) -> OperatorRow | None:
        """The first operator after which the inherited error exceeds its budget."""
        limit = budget.limit(exact=self.full)
        return next((row for row in self.rows if row.inherited_ratio > limit), None)

    def conclusion(self) -> Said:
        """What was found, in a sentence or two."""
        if self.problem:
            why = messages.beside(self.problem, self.problem_messages)
            return say("culprit.not_localised", "Not localised: {why}", why=why)
        found = self.culprits
        if not found:
            text = say(
                "culprit.none",
                "No culprit: none of {compared} of {total} operators, each on the reference's own "
                "input, errs by more than {arithmetic} explains.",
                compared=len(operator_rows.compared(self.rows)),
                total=len(self.rows),
                arithmetic=self.arithmetic,
            )
            if self.reproduced is not False:
                return text
            return join(
                text,
                say(
                    "culprit.not_reproduced",
                    "Run one by one they do not give the model's result on the device either: the "
                    "fault comes and goes, or lies where the model takes another way on the "
                    "device.",
                ),
            )
        method = found[0].method
        return say(
            "culprit",
            "Culprit: {culprit} Beyond what {arithmetic} explains are {kinds}.",
            culprit=join(describe(found[0]), str(method) if method else ""),
            arithmetic=self.arithmetic,
            kinds=listed(self._kinds()),
        )

    def _kinds(self) -> list[str]:
        """How many of each operator are culprits, "81 of 81 aten::convolution.default"."""
        wrong = collections.Counter(row.operator for row in self.culprits)
        seen = collections.Counter(row.operator for row in operator_rows.compared(self.rows))
        rest = seen.total() - sum(seen[name] for name in wrong)
        kinds: list[str] = [
            say(
                "culprit.kind",
                "{count} of {seen} {operator}",
                count=count,
                seen=seen[name],
                operator=name,
            )
            for name, count in wrong.most_common()
        ]
        return [*kinds, say("culprit.others", "0 of {rest} others", rest=rest)]


def worst_batch(budgets: Sequence[OutputBudget], images: int, batch_size: int) -> tuple[int, int]:
    """First image and end of the batch that holds the image with the greatest budget ratio."""
    worst, image = -1.0, 0
    for row in budgets:
        for number, ratio in enumerate(row.image_ratios):
            if not ratio <= worst:  # a NaN ratio is the worst there is
                worst, image = ratio if ratio == ratio else math.inf, number
    start = image // batch_size * batch_size
    return start, min(images, start + batch_size)


def reproduced(
    traced: Mapping[str, Array], leg: Mapping[str, Array], budgets: Sequence[OutputBudget]
) -> bool | None:
    """Whether outputs of a trace are the device's own, within what honest rounding explains.

    Arrays [N, ...] of the same images; None when no output can be compared.
    """
    verdicts = []
    for name, array in traced.items():
        if name not in leg or leg[name].shape != array.shape:
            continue
        if np.array_equal(array, leg[name], equal_nan=True):
            verdicts.append(True)
            continue
        allowed = [
            row.limit * row.device.rmse / row.ratio
            for row in budgets
            if row.name == name and row.ratio
        ]
        verdicts.append(bool(allowed) and metrics.rmse(leg[name], array) <= allowed[0])
    return all(verdicts) if verdicts else None


def describe(row: OperatorRow) -> Said:
    """One culprit in a sentence."""
    line = say("culprit.source", ", called in {source}", source=row.source) if row.source else ""
    where = say(
        "culprit.where",
        "{operator} in {module} (operator {index}{line})",
        operator=row.operator,
        module=row.module,
        index=row.index,
        line=line,
    )
    if row.unstable:
        english = "{where}: {count} elements differ when it is repeated on the same input."
        return say("culprit.unstable", english, where=where, count=row.unstable)
    if row.nonfinite:
        english = "{where}: {count} NaN or infinite values of its own."
        return say("culprit.nonfinite", english, where=where, count=row.nonfinite)
    return say(
        "culprit.error",
        "{where}: own error {ratio} times what {arithmetic} costs there, {slice_ratio} times in "
        "{slice}.",
        where=where,
        ratio=f"{row.ratio:.3g}",
        arithmetic=row.arithmetic,
        slice_ratio=f"{row.worst_slice_ratio:.3g}",
        slice=row.worst_slice or say("operators.all", "all of it"),
    )
