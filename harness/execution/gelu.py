"""Which form of GELU a device computes: torch_npu has its own.

GELU(x) = x/2 (1 + erf(x / sqrt 2)), or with approximate="tanh" an approximation that differs from
it by up to 4.7e-4, two thousand times the rounding of float32.  torch_npu's documentation (of
torch_npu.npu_gelu) says that on the NPU `approximate` of the native gelu has no effect and is
always tanh; with TORCH_NPU_USE_COMPATIBLE_IMPL=1 its sources hand it on.  Versions differ, so that
it is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import torch

# `approximate` -> the form that it asks for.
FORMS = {"none": "erf", "tanh": "tanh"}
_GELUS = (torch.ops.aten.gelu.default, torch.ops.aten.gelu_.default)
# Kernels for float32 stay well below this, and the forms are 4.7e-4 apart.
_TOLERANCE = 1e-4


_APPROXIMATE = {form: approximate for approximate, form in FORMS.items()}


def declared(func: Any, kwargs: Mapping[str, Any], form: str) -> dict[str, Any]:
    """Keyword arguments of an operator call where every GELU takes `form`; "" for as asked."""
    if form and func in _GELUS:
        return {**kwargs, "approximate": _APPROXIMATE[form]}
    return dict(kwargs)


def instead(device: torch.device, asked: Set[str]) -> str | None:
    """The form that a device computes in place of another one; None where it does as asked.

    `asked`: values of `approximate` that a model uses.  None also for a device that computes
    neither form, or a different one for each: that is no arithmetic but a fault.
    """
    wanted = {FORMS[approximate] for approximate in asked}
    found = {_form(device, approximate) for approximate in asked}
    if len(found) != 1 or found == wanted:
        return None
    return found.pop()


def _form(device: torch.device, approximate: str) -> str | None:
    points = torch.linspace(-4, 4, 65)
    got = torch.nn.functional.gelu(points.to(device), approximate=approximate).cpu().double()
    for name, form in FORMS.items():
        exact = torch.nn.functional.gelu(points.double(), approximate=name)
        if (got - exact).abs().max() < _TOLERANCE:
            return form
    return None
