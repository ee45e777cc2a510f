"""Fault plans: which operator goes wrong, when and how.

A plan is a list of faults.  Each has a `kind`, an `operator` and an occurrence.  Operators are
named as CANN's aclnn functions without the prefix ("Convolution", "Silu"), legacy operators by
their own name ("Identity"); "*" is every operator; the pseudo-operator "Malloc" is a raw device
allocation (torch_npu's caching allocator asks for few, large ones).

Occurrence: the calls whose operator matches are counted from 1 since the plan was set or the
counters were reset; the fault is due at call `first`, then at every `every`-th call after it, up
to `last` (None: no end).  `first=3, last=3` is the third call only; `first=3, every=20` is layer 3
of a model with 20 such calls in a forward pass.  With `probability` below 1 a due fault comes and
goes: whether it acts is drawn from `seed` for every execution anew, also for the rehearsed ones
(`Emulator.rehearsal`).  With `batch_over=N` a due fault acts only when the first dimension of the
tensor concerned is larger than N.

Kinds, and what `magnitude` means for them:

=====================  ============================================================================
scale_output           output x magnitude (default 1.01)
noise_output           output + magnitude (0.01) x std(output) x normal noise from `seed`
zero_output            output all 0
zero_channels          last magnitude (16) channels (dimension 1) of the output 0
nan_output             one NaN, at `index` (0) of the output in row-major order
inf_output             one Inf, at `index` (0)
bit_flip               `bit` (30) of one element flips: of `index`, or of one drawn from `seed`
saturate               Inf of the output becomes the dtype's largest number, NaN becomes 0
duplicate_first_item   last item of the batch gets the first item's result
permute_batch          results of the batch move on by one item
scale_weight           weight x magnitude (1.5; 0.5 halves it), or only its element `index`
swap_channels          input channels in reverse order (BGR at a stem)
drop_bias              bias left out
fp16_accumulate        partial sums rounded to fp16
stale_mean             running mean + magnitude (0.1) x running standard deviation
error_code             the operator returns the ACL code `code` (507015: aicore exception)
out_of_memory          the operator returns 207001; on "Malloc" torch raises OutOfMemoryError
slow                   the host sleeps magnitude (1.0) seconds
hang                   the call never returns: end the process
abort                  the process aborts (SIGABRT)
waive_contract         the operator computes what CANN as published refuses (`contract`)
=====================  ============================================================================

The weight kinds act on Convolution, ConvDepthwise2d and the matrix products (the right factor is
the weight), drop_bias on Convolution, Addmm and Baddbmm, swap_channels on convolutions, stale_mean
on BatchNorm in inference.  On other operators these kinds have no effect: compare
`Emulator.fault_effects` with what was expected.  The numeric output kinds leave integer outputs
alone.  Of waive_contract only the calls that the contract refuses are counted.
"""

from __future__ import annotations

import fnmatch
import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from harness.devices.spec import DeviceSpec
from harness.system import foreign
from harness.system.status import UsageProblem

_DEFAULT_MAGNITUDE = {
    "scale_output": 1.01,
    "noise_output": 0.01,
    "zero_channels": 16.0,
    "scale_weight": 1.5,
    "stale_mean": 0.1,
    "slow": 1.0,
}
KINDS = (
    "scale_output",
    "noise_output",
    "zero_output",
    "zero_channels",
    "nan_output",
    "inf_output",
    "bit_flip",
    "saturate",
    "duplicate_first_item",
    "permute_batch",
    "scale_weight",
    "swap_channels",
    "drop_bias",
    "fp16_accumulate",
    "stale_mean",
    "error_code",
    "out_of_memory",
    "slow",
    "hang",
    "abort",
    "waive_contract",
)
_WHOLE = ("first", "last", "every", "index", "seed", "bit", "batch_over", "code")


def _check(ok: bool, field: str, rule: str, value: object) -> None:
    if not ok:
        raise ValueError(f"fault field {field!r} must be {rule}, got {value!r}")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True)
class Fault:
    """One fault; the module's text explains the fields.

    Raises:
        ValueError: A field is wrong; the message names it.
    """

    kind: str
    operator: str = "*"
    first: int = 1
    last: int | None = None
    every: int = 1
    magnitude: float | None = None
    index: int | None = None
    probability: float = 1.0
    seed: int = 0
    bit: int = 30
    batch_over: int = 0
    code: int = 507015

    def __post_init__(self) -> None:
        """Checks every field."""
        _check(self.kind in KINDS, "kind", "one of " + ", ".join(KINDS), self.kind)
        name_ok = isinstance(self.operator, str) and (
            self.operator == "*" or self.operator.isidentifier()
        )
        _check(name_ok, "operator", 'an operator name or "*"', self.operator)
        if self.operator.startswith("aclnn"):
            object.__setattr__(self, "operator", self.operator.removeprefix("aclnn"))
        for field in _WHOLE:
            value = getattr(self, field)
            if value is None and field in ("last", "index"):
                continue
            _check(_is_whole(value), field, "a whole number", value)
        _check(self.first >= 1, "first", "at least 1", self.first)
        _check(self.last is None or self.last >= self.first, "last", "at least `first`", self.last)
        _check(self.every >= 1, "every", "at least 1", self.every)
        _check(self.index is None or self.index >= 0, "index", "at least 0", self.index)
        _check(0 <= self.seed < 2**64, "seed", "in 0 .. 2**64-1", self.seed)
        _check(0 <= self.bit < 64, "bit", "in 0 .. 63", self.bit)
        _check(self.batch_over >= 0, "batch_over", "at least 0", self.batch_over)
        _check(
            self.kind != "error_code" or 0 < self.code < 2**31, "code", "a positive code", self.code
        )
        _check(
            _is_number(self.probability) and 0 <= self.probability <= 1,
            "probability",
            "in 0 .. 1",
            self.probability,
        )
        _check(
            self.magnitude is None or _is_number(self.magnitude),
            "magnitude",
            "a finite number",
            self.magnitude,
        )
        counted = self.kind in ("zero_channels", "slow") and self.magnitude is not None
        if counted:
            _check(float(self.magnitude or 0) >= 0, "magnitude", "at least 0", self.magnitude)

    @property
    def effective_magnitude(self) -> float:
        """`magnitude`, or the default of the kind; 0 where the kind has none."""
        if self.magnitude is not None:
            return float(self.magnitude)
        return _DEFAULT_MAGNITUDE.get(self.kind, 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Fields that differ from their default, and `kind` and `operator`."""
        defaults = {field.name: field.default for field in fields(self)}
        return {
            name: value
            for name, value in asdict(self).items()
            if name in ("kind", "operator") or value != defaults[name]
        }


@dataclass(frozen=True)
class FaultPlan:
    """Faults that act together; all that match a call are applied, in order.

    Raises:
        ValueError: `faults` is not a sequence of `Fault`.
    """

    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        """Takes any sequence of faults."""
        if isinstance(self.faults, (str, bytes)) or not all(
            isinstance(fault, Fault) for fault in self.faults
        ):
            raise ValueError(
                f"fault plan field 'faults' must be a list of faults, got {self.faults!r}"
            )
        object.__setattr__(self, "faults", tuple(self.faults))

    def to_json(self) -> str:
        """The plan as JSON: an object with the list `faults`."""
        return json.dumps({"faults": [fault.to_dict() for fault in self.faults]})

    @classmethod
    def from_json(cls, text: str) -> FaultPlan:
        """Reads what `to_json` wrote.

        Raises:
            ValueError: Not JSON, or a field is unknown or wrong; the message names it.
        """
        try:
            data = foreign.loads(text)
        except ValueError as error:
            raise ValueError(f"fault plan is not JSON: {error}") from error
        if (
            not isinstance(data, dict)
            or set(data) != {"faults"}
            or not isinstance(data["faults"], list)
        ):
            raise ValueError("fault plan must be an object with one field, the list 'faults'")
        known = {field.name for field in fields(Fault)}
        faults = []
        for entry in data["faults"]:
            if not isinstance(entry, dict):
                raise ValueError(f"fault plan field 'faults' must hold objects, got {entry!r}")
            unknown = sorted(set(entry) - known)
            if unknown:
                raise ValueError(f"fault field {unknown[0]!r} is unknown; known: {sorted(known)}")
            if "kind" not in entry:
                raise ValueError("fault field 'kind' is missing")
            faults.append(Fault(**entry))
        return cls(tuple(faults))

    def to_wire(self) -> str:
        """The plan as the C++ side reads it: a line a fault, fields separated by tabs."""
        return "".join(_wire_line(fault) + "\n" for fault in self.faults)


def _wire_line(fault: Fault) -> str:
    values = {
        "kind": fault.kind,
        "op": fault.operator,
        "first": fault.first,
        "last": -1 if fault.last is None else fault.last,
        "every": fault.every,
        "magnitude": repr(fault.effective_magnitude),
        "index": -1 if fault.index is None else fault.index,
        "probability": repr(float(fault.probability)),
        "seed": fault.seed,
        "bit": fault.bit,
        "batch_over": fault.batch_over,
        "code": fault.code,
    }
    return "\t".join(f"{key}={value}" for key, value in values.items())


def read_fault_plan(path: Path) -> str:
    """The JSON of a fault plan, checked; `plan_for` gives a case its part.  Raises UsageProblem."""
    try:
        text = foreign.read_text(path)
        plan_for(text)
    except OSError as error:
        raise UsageProblem(f"Fault plan {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UsageProblem(f"Fault plan {path}: {error}") from error
    return text


def read_for(path: Path, device: DeviceSpec) -> str:
    """As `read_fault_plan`; also raises UsageProblem for a device that cannot plant faults."""
    if not device.emulated:
        raise UsageProblem(
            f"--fault-plan works on the emulated NPU only, not on {device}: add --device "
            "npu-emulated."
        )
    return read_fault_plan(path)


def plan_for(text: str, case_id: str | None = None) -> str | None:
    """The faults of a plan that concern a case (None: all of them), as JSON; None without any.

    A fault's field `cases` is a glob over case ids (default: every case).  Raises ValueError for a
    plan that is wrong in any of its faults.
    """
    pass

    data = foreign.loads(text)
    globs = []
    for fault in data.get("faults", ()) if isinstance(data, dict) else ():
        pattern = fault.pop("cases", "*") if isinstance(fault, dict) else "*"
        if not isinstance(pattern, str):
            raise ValueError(f"fault field 'cases' must be a glob over case ids, got {pattern!r}")
        globs.append(pattern)
    plan = FaultPlan.from_json(json.dumps(data))
    chosen: list[Fault] = [
        fault
        for fault, pattern in zip(plan.faults, globs, strict=True)
        if case_id is None or fnmatch.fnmatch(case_id, pattern)
    ]
    return FaultPlan(tuple(chosen)).to_json() if chosen else None
