"""Collects what nonlinear operators get while a model runs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from harness.cases.models.operator_ranges import FAR, OperatorRange

if TYPE_CHECKING:
    import torch

_FUNCTIONS = frozenset(
    "gelu silu mish sigmoid tanh erf hardswish hardsigmoid softplus elu log_sigmoid_forward "
    "hardtanh".split()
)
_SOFTMAXES = frozenset({"_softmax", "_safe_softmax"})
_ATTENTIONS = frozenset(
    {"scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu"}
)
# Of attention, whose scores stand in no tensor: what is multiplied once more to see them.
_QUERIES = 16  # an image and head, spread evenly: images differ more than their queries
_MASKED = 50.0  # below a row's greatest score: a mask, not a score


class RangeMeter:
    """Collects the ranges of the operator calls that it is shown."""

    def __init__(self) -> None:
        self._found: dict[str, _Sums] = {}

    def see(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take the input of an aten operator that is about to run."""
        name = str(func._schema.name).partition("::")[2].rstrip("_")
        if name in _FUNCTIONS:
            self._sums(name).add(args[0])
        elif name in _SOFTMAXES:
            self._sums("softmax").add_scores(args[0], args[1])
        elif name in _ATTENTIONS:
            self._sums("softmax").add_scores(_scores(args[0], args[1], kwargs.get("scale")), -1)

    def found(self) -> tuple[OperatorRange, ...]:
        """The ranges, by operator in the order of their first calls; those of nothing left out."""
        return tuple(sums.range_of(name) for name, sums in self._found.items() if sums.elements)

    def _sums(self, name: str) -> _Sums:
        return self._found.setdefault(name, _Sums())


@dataclasses.dataclass
class _Sums:
    calls: int = 0
    elements: int = 0
    squares: float = 0.0
    largest: float = 0.0
    beyond: int = 0
    rows: int = 0
    variances: float = 0.0

    def add(self, x: torch.Tensor) -> None:
        """An input, of any floating-point dtype."""
        if not x.numel():
            return
        magnitude = x.abs() if x.element_size() >= 4 else x.float().abs()
        self.calls += 1
        self.elements += x.numel()
        self.squares += float(magnitude.norm()) ** 2
        self.largest = max(self.largest, float(magnitude.max()))
        self.beyond += int((magnitude > FAR).sum())

    def add_scores(self, x: torch.Tensor, dim: int) -> None:
        """What a softmax gets along `dim`."""
        if not x.numel():
            return
        x = x if x.element_size() >= 4 else x.float()
        kept = x > x.amax(dim, keepdim=True) - _MASKED
        count = kept.sum(dim, keepdim=True)
        inside = x.masked_fill(~kept, 0.0)
        deviation = (x - inside.sum(dim, keepdim=True) / count).masked_fill(~kept, 0.0)
        variance = deviation.square().sum(dim, keepdim=True) / count
        self.add(inside)
        self.rows += variance.numel()
        self.variances += float(variance.sum())

    def range_of(self, name: str) -> OperatorRange:
        """The range of all that was added."""
        return OperatorRange(
            operator=name,
            calls=self.calls,
            rms=float((self.squares / self.elements) ** 0.5),
            largest=self.largest,
            beyond=self.beyond / self.elements,
            spread=float((self.variances / self.rows) ** 0.5) if self.rows else None,
        )


def _scores(query: torch.Tensor, key: torch.Tensor, scale: float | None) -> torch.Tensor:
    """Scores of attention [n, heads, queries, keys], of some queries."""
    query = query[..., :: max(1, query.shape[-2] // _QUERIES), :]
    if query.dim() == 4 and query.shape[1] != key.shape[1]:  # several queries share one key
        key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
    return (query @ key.mT) * (query.shape[-1] ** -0.5 if scale is None else scale)
