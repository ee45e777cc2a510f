"""Elementary functions over a fixed grid: their form, and the worst error in units in the last
place of the exact result (float64 of the same argument, rounded by nobody)."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from harness.execution.operators import allowance
from harness.execution.operators.calls import Call
from harness.judgement.operator_rows import SLICE_RATIO_LIMIT
from harness.judgement.published import HALF_DIFFERENCES
from harness.records.fingerprint import FunctionTraits

_aten = torch.ops.aten
NO_FORM = "none known"
# Beyond any rounding, below the distance of any two forms (gelu's: 4.7e-4).
_SAME_FORM = 1e-4
_SAME_ULPS = 4.0  # in short formats, whose rounding is coarser than that
_LENGTH = 64  # of a row of softmax


@dataclasses.dataclass(frozen=True)
class Function:
    """An operator of one argument.

    `forms`: name -> what it is in float64, by published names; the first is what it should be.
    `grid`: of the arguments, float64, for a dtype; `half_forms`: more forms, in float16 alone.
    """

    call: Callable[[Tensor], Call]
    forms: Mapping[str, Callable[[Tensor], Tensor]]
    grid: Callable[[torch.dtype], Tensor]
    half_forms: Mapping[str, Callable[[Tensor], Tensor]] = dataclasses.field(default_factory=dict)


def traits(name: str, device: torch.device, dtype: torch.dtype) -> FunctionTraits:
    """The traits of one of `FUNCTIONS`."""
    function = FUNCTIONS[name]
    x = function.grid(dtype).to(dtype)
    call = function.call(x.to(device))
    got = call.func(*call.args, **call.kwargs).cpu()
    forms = {**function.forms, **(function.half_forms if dtype == torch.float16 else {})}
    exact = {name: form(x.double()) for name, form in forms.items()}
    errors = {name: (got.double() - value).abs() for name, value in exact.items()}
    units = {name: errors[name] / _unit(value, dtype) for name, value in exact.items()}
    form = min(units, key=lambda name: float(units[name].nan_to_num(nan=torch.inf).mean()))
    near = (errors[form] <= _SAME_FORM) | (units[form] <= _SAME_ULPS)
    near |= errors[form] <= _SAME_FORM * exact[form].abs()
    known = bool(near.all())
    # Whether results below the normal range are kept is another question (`special`).
    normal = exact[form].abs() >= torch.finfo(dtype).tiny
    worst = torch.where(normal, units[form].nan_to_num(nan=torch.inf), 0.0)
    place = int(worst.argmax())
    allowed = _allowed(function.call(x), exact[form], dtype)
    return FunctionTraits(
        form=form if known else NO_FORM,
        worst_ulp=float(worst.max()),
        at=float(x.double().flatten()[place]),
        of_allowed=float((errors[form] / allowed).nan_to_num(nan=torch.inf).max()),
        bits=digest(got),
    )


def _unit(exact: Tensor, dtype: torch.dtype) -> Tensor:
    """A unit in the last place of each result; below the normal range its spacing there."""
    limits = torch.finfo(dtype)
    return torch.exp2(torch.floor(torch.log2(exact.abs().clamp_min(limits.tiny)))) * limits.eps


def _allowed(call: Call, exact: Tensor, dtype: torch.dtype) -> Tensor:
    """What a single result may be off by, as any slice of operators one by one."""
    (inside,) = allowance.inner(call, [exact])
    stored = _unit(exact, dtype) / 2 / math.sqrt(3)
    flushed = torch.where(exact.abs() < torch.finfo(dtype).tiny, exact.abs(), 0.0)
    return SLICE_RATIO_LIMIT * torch.hypot(inside.double(), stored) + flushed


def digest(values: Tensor) -> str:
    """Twelve digits that stand for every bit of a tensor."""
    raw = values.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(raw.numpy().tobytes()).hexdigest()[:12]


def _even(low: float, high: float) -> Callable[[torch.dtype], Tensor]:
    return lambda dtype: torch.linspace(low, high, 1537, dtype=torch.float64)


def _around_zero(reach: float) -> Callable[[torch.dtype], Tensor]:
    """Evenly to both sides, and small arguments by their powers of two."""

    def grid(dtype: torch.dtype) -> Tensor:
        even = torch.linspace(2.0**-12, reach, 769, dtype=torch.float64)
        small = torch.logspace(-12, 0, 257, base=2, dtype=torch.float64)
        return torch.cat([even, small, -even, -small])

    return grid


def _exponents(dtype: torch.dtype) -> Tensor:
    """Arguments of exp with normal results."""
    limits = torch.finfo(dtype)
    return torch.linspace(math.log(limits.tiny) + 0.1, math.log(limits.max) - 0.1, 1537,
                          dtype=torch.float64)  # fmt: skip


def _positive(dtype: torch.dtype) -> Tensor:
    return torch.logspace(-13, 13, 1537, base=2, dtype=torch.float64)


def _rows(dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(32, _LENGTH, generator=generator, dtype=torch.float64)


def _tanh_gelu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-math.sqrt(8 / math.pi) * (x + 0.044715 * x**3)))


def _erf_gelu(x: Tensor) -> Tensor:
    below: Tensor = torch.special.ndtr(x)
    return x * below


def _half_softmax(x: Tensor) -> Tensor:
    return torch.softmax((x - x.amax(-1, keepdim=True)).half().double(), -1)


def _plain(func: Any, **kwargs: Any) -> Callable[[Tensor], Call]:
    return lambda x: Call(func, (x,), kwargs)


_GELUS = {"erf": _erf_gelu, "tanh": _tanh_gelu, "sigmoid": lambda x: x * torch.sigmoid(1.702 * x)}
# Name, as PyTorch's, -> the function.
FUNCTIONS: Mapping[str, Function] = {
    "gelu": Function(_plain(_aten.gelu.default), _GELUS, _even(-4, 4)),
    "gelu tanh": Function(_plain(_aten.gelu.default, approximate="tanh"), _GELUS, _even(-4, 4)),
    "exp": Function(_plain(_aten.exp.default), {"exp": torch.exp}, _exponents),
    "tanh": Function(_plain(_aten.tanh.default), {"tanh": torch.tanh}, _around_zero(8)),
    "erf": Function(_plain(_aten.erf.default), {"erf": torch.erf}, _around_zero(4)),
    "sigmoid": Function(_plain(_aten.sigmoid.default), {"sigmoid": torch.sigmoid}, _even(-8, 8)),
    "silu": Function(_plain(_aten.silu.default), {"silu": torch.nn.functional.silu}, _even(-8, 8)),
    "rsqrt": Function(_plain(_aten.rsqrt.default), {"rsqrt": torch.rsqrt}, _positive),
    "softmax": Function(
        lambda x: Call(_aten._softmax.default, (x, -1, False), {}),
        {"softmax": lambda x: torch.softmax(x, -1)},
        _rows,
        {HALF_DIFFERENCES: _half_softmax},
    ),
}
