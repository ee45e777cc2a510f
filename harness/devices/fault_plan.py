"""Fault plans: which operator goes wrong, when and how.

docs/fault-plans.md has the form of a plan: its fields, its kinds, and how calls are counted.  A
fault that comes and goes (`probability`) is drawn for every execution anew, also for the rehearsed
ones (`Emulator.rehearsal`); calls are counted from 1 since the plan was set or the counters were
reset.  How often a fault had an effect is counted as well (`Counters.fault_effects`).
"""

from __future__ import annotations

import fnmatch
import json
import math
import re
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields, replace
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
VERSION = 1  # of the form of a plan
_VERSION_KEY = "schema_version"
_MODULE = re.compile(r"[\w.*?\[\]!-]{1,512}")
_WHOLE = ("first", "last", "every", "index", "seed", "bit", "batch_over", "code")


def _check(ok: bool, field: str, rule: str, value: object) -> None:
    if not ok:
        raise ValueError(f"fault field {field!r} must be {rule}, got {value!r}")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float64 holds
        return False


@dataclass(frozen=True)
class Fault:
    """One fault; docs/fault-plans.md explains the fields.

    Raises:
        ValueError: A field is wrong; the message names it.
    """

    kind: str
    operator: str = "*"
    module: str | None = None
    cases: str = "*"
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
        _check(
            isinstance(self.kind, str) and self.kind in KINDS,
            "kind",
            "one of " + ", ".join(KINDS),
            self.kind,
        )
        operator = self.operator.removeprefix("aclnn") if isinstance(self.operator, str) else ""
        name_ok = operator == "*" or (operator.isidentifier() and operator.isascii())
        _check(name_ok, "operator", 'an operator name or "*"', self.operator)
        object.__setattr__(self, "operator", operator)
        module = self.module
        module_ok = module is None or (isinstance(module, str) and bool(_MODULE.fullmatch(module)))
        _check(module_ok, "module", "a module's path or a glob over such paths", self.module)
        _check(isinstance(self.cases, str), "cases", "a glob over case ids", self.cases)
        for field in _WHOLE:
            value = getattr(self, field)
            if value is None and field in ("last", "index"):
                continue
            _check(_is_whole(value), field, "a whole number", value)
        _check(self.first >= 1, "first", "at least 1", self.first)
        _check(self.last is None or self.last >= self.first, "last", "at least `first`", self.last)
        _check(self.every >= 1, "every", "at least 1", self.every)
        _check(self.index is None or self.index >= 0, "index", "at least 0", self.index)
        for field in set(_WHOLE) - {"seed"}:
            value = getattr(self, field)
            _check(value is None or value < 2**63, field, "below 2**63", value)
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

    @property
    def modules(self) -> bool:
        """Whether a fault names a module."""
        return any(fault.module is not None for fault in self.faults)

    def to_json(self) -> str:
        """The plan as JSON: an object with its version and the list `faults`."""
        faults = [fault.to_dict() for fault in self.faults]
        return json.dumps({_VERSION_KEY: VERSION, "faults": faults})

    @classmethod
    def from_json(cls, text: str) -> FaultPlan:
        """Reads what `to_json` wrote; a plan without a version is of this one.

        Raises:
            ValueError: Not JSON, or a field is unknown or wrong; the message names it.
        """
        try:
            data = foreign.loads(text)
        except ValueError as error:
            raise ValueError(f"fault plan is not JSON: {error}") from error
        if not isinstance(data, dict) or not isinstance(data.get("faults"), list):
            raise ValueError("fault plan must be an object with the list 'faults'")
        version = data.pop(_VERSION_KEY, VERSION)
        if version != VERSION or isinstance(version, bool):
            raise ValueError(
                f"fault plan has {_VERSION_KEY} {version!r}, this harness reads {VERSION}"
            )
        if strange := sorted(set(data) - {"faults"}):
            raise ValueError(
                f"fault plan field {strange[0]!r} is unknown; known: 'faults', {_VERSION_KEY!r}"
            )
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
    if fault.module is not None:
        values["module"] = fault.module
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
    chosen = [
        replace(fault, cases="*")
        for fault in FaultPlan.from_json(text).faults
        if case_id is None or fnmatch.fnmatch(case_id, fault.cases)
    ]
    return FaultPlan(tuple(chosen)).to_json() if chosen else None


def idle_faults(text: str, case_ids: Collection[str]) -> list[int]:
    """Numbers, from 1, of the faults of a checked plan that concern none of these cases.

    Raises UsageProblem when that is all of them.
    """
    faults = FaultPlan.from_json(text).faults
    idle = [
        number
        for number, fault in enumerate(faults, start=1)
        if not any(fnmatch.fnmatch(case_id, fault.cases) for case_id in case_ids)
    ]
    if len(idle) == len(faults):
        globs = ", ".join(repr(fault.cases) for fault in faults[:3]) or "none"
        raise UsageProblem(
            f"The fault plan concerns no case of this run: its faults are for cases {globs}, the "
            f"run has {', '.join(sorted(case_ids)[:3])}."
        )
    return idle
