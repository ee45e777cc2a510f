"""Probes of a device's arithmetic, as requests to its process."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch

from harness.cases.formats import dtype_and_numerics
from harness.execution import legs
from harness.execution.probes import (
    accumulator,
    composites,
    functions,
    order,
    rounding,
    special,
    summation,
)
from harness.execution.probes.rounding import Form
from harness.judgement import published
from harness.judgement.arithmetic import Factors
from harness.records.fingerprint import FormatTraits
from harness.system.status import Stage, StageCallback

if TYPE_CHECKING:
    from harness.devices.device import Device
    from harness.records.leg import DeviceInfo

Answer = Callable[[str, torch.device, torch.dtype], FormatTraits]


@dataclasses.dataclass(frozen=True)
class ProbeRequest:
    """A group of probes in one format; `names`: which of the group's."""

    group: str
    format: str
    names: tuple[str, ...]

    def answer(self, device: Device, on_stage: StageCallback) -> FormatTraits:
        """Ask them on a device.  Raises CaseProblem where one does not run, and UsageProblem."""
        dtype, profile = dtype_and_numerics(self.format)
        found = FormatTraits(dtype=dtype, numerics=device.apply_numerics(profile))
        on_stage(Stage.FORWARD)
        for name in self.names:
            try:
                seen = GROUPS[self.group][1](name, device.torch_device, getattr(torch, dtype))
                device.synchronize()
            except Exception as error:
                raise legs.problem(device, error, Stage.FORWARD) from error
            found = found.with_more(seen)
        return found


@dataclasses.dataclass(frozen=True)
class DescribeRequest:
    """What a device is."""

    def answer(self, device: Device, on_stage: StageCallback) -> DeviceInfo:
        """Ask it."""
        return device.describe()


def of_sum(found: summation.Summation) -> dict[str, str]:
    """Every trait of an operator that adds up."""
    result = rounding.of_result(found)
    traits = {"result": _form(result, found), "order": order.UNREAD}
    if (seen := order.reveal(found)) is not None:
        first, last = accumulator.measure(found, seen)
        traits |= {"order": str(seen), "first sums": str(first), "last sums": str(last)}
    if found.is_product:
        left, right = rounding.of_factors(found)
        if left != right:
            traits["factors"] = f"left {_form(left, found)}; right {_form(right, found)}"
        elif left == result != Factors(found.explicit_bits):
            traits["factors"] = published.HIDDEN
        else:
            traits["factors"] = _form(left, found)
    return traits | special.of_sums(found)


def _form(form: Form, found: summation.Summation) -> str:
    """All bits of the dtype are no rounding of a factor, and that to nearest of a result."""
    return published.ALL_BITS if form == Factors(found.explicit_bits) else str(form)


def _sums(name: str, device: torch.device, dtype: torch.dtype) -> FormatTraits:
    known = {one.name: one for one in summation.of_device(device, dtype)}
    return _with_traits(dtype, name, of_sum(known[name]) if name in known else {})


def _functions(name: str, device: torch.device, dtype: torch.dtype) -> FormatTraits:
    seen = functions.traits(name, device, dtype)
    return FormatTraits(dtype=_name(dtype), functions={name: seen})


def _traits(ask: Callable[[str, torch.device, torch.dtype], dict[str, str]]) -> Answer:
    return lambda name, device, dtype: _with_traits(dtype, name, ask(name, device, dtype))


def _with_traits(dtype: torch.dtype, name: str, seen: dict[str, str]) -> FormatTraits:
    return FormatTraits(dtype=_name(dtype), traits={name: seen} if seen else {})


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# Group -> the names in it, and what asks one of them.
GROUPS: Mapping[str, tuple[tuple[str, ...], Answer]] = {
    "sums": (("mm", "conv2d", "sum", "mean"), _sums),
    "elements": (tuple(special.ELEMENTS), _traits(special.of_elements)),
    "functions": (tuple(functions.FUNCTIONS), _functions),
    "composites": (tuple(composites.COMPOSITES), _traits(composites.traits)),
    "repeats": (tuple(composites.REDUCTIONS), _traits(composites.repeats)),
}
