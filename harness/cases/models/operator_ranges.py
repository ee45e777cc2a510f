"""What inputs a model's nonlinear operators saw: a fault in what they never saw cannot show.

Near zero GELU, SiLU and tanh are straight lines, and a softmax of nearly equal scores is a mean: a
wrong constant there changes nothing that could be seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from harness.system.messages import Said, listed, say

# |x| from which on all of these functions are within 0.3 % of what they are at infinity.
FAR = 6.0
# At an rms of 0.5 the terms beyond the first of tanh are a twelfth of it, and the weights of a
# softmax differ by a factor of e^0.5; below, the function is all but a line, the softmax a mean.
NEARLY_LINEAR = 0.5


@dataclasses.dataclass(frozen=True)
class OperatorRange:
    """What all calls of one kind of operator got in one pass over the images.

    `operator`: "gelu"; "softmax" stands for attention too.  `rms`, `largest` (of |x|) and `beyond`,
    the share of elements with |x| above 6: of the input.  `spread`: of a softmax, the standard
    deviation of scores over the keys, without what a mask takes out; None for the others.  Scores
    of fused attention are those of 16 queries or more, spread evenly.
    """

    operator: str
    calls: int
    rms: float
    largest: float
    beyond: float
    spread: float | None = None

    @property
    def nearly_linear(self) -> bool:
        """Whether it saw only the range in which it is all but a line, or a mean."""
        return (self.rms if self.spread is None else self.spread) < NEARLY_LINEAR


def linear_notes(ranges: Iterable[OperatorRange]) -> list[Said]:
    """A sentence that names the kinds which saw only their linear range; none where none did."""
    found = [
        say(
            "ranges.inputs",
            "{operator} (inputs with an rms of {value})",
            operator=one.operator,
            value=f"{one.rms:.2g}",
        )
        if one.spread is None
        else say(
            "ranges.scores",
            "{operator} (scores with a spread of {value})",
            operator=one.operator,
            value=f"{one.spread:.2g}",
        )
        for one in ranges
        if one.nearly_linear
    ]
    if not found:
        return []
    return [
        say(
            "ranges.linear",
            "On these images {operators} saw only the range where it is nearly linear: the case "
            "says little about it.",
            operators=listed(found),
        )
    ]
