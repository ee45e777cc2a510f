"""What differs between two fingerprints of arithmetic."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence

from harness.records.fingerprint import Fingerprint
from harness.system.status import ExitCode, UsageProblem

# The worst errors of one algorithm in another order differ by less than both: a rounding, and what
# two honest roundings differ by (docs/verdict.md).
ULP_TOLERANCE = 0.5
ULP_FACTOR = 1.5


class Change(enum.Enum):
    """What became of one trait between two fingerprints."""

    OTHER = "another form"
    WORSE = "less accurate"
    BETTER = "more accurate"
    ORDER = "another order of sums"
    BITS = "other bits, same form"


@dataclasses.dataclass(frozen=True)
class Difference:
    """A trait that differs; "not asked" stands for a side that lacks it."""

    format: str
    operator: str
    trait: str
    old: str
    new: str
    change: Change


def differences(old: Fingerprint, new: Fingerprint) -> list[Difference]:
    """Every trait that differs between two fingerprints, in the formats that both have.

    Raises UsageProblem where they have none.
    """
    if not set(old.formats) & set(new.formats):
        raise UsageProblem(
            "The two fingerprints have no format in common: "
            f"{', '.join(old.formats) or 'none'} and {', '.join(new.formats) or 'none'}."
        )
    found = []
    for name in (one for one in old.formats if one in new.formats):
        before, after = (
            {(operator, trait): value for key, operator, trait, value in side.traits()
             if key == name}
            for side in (old, new)
        )  # fmt: skip
        for key in {**before, **after}:
            values = [side.get(key, "not asked") for side in (before, after)]
            if values[0] != values[1]:
                change = _HARMLESS.get(key[1], Change.OTHER)
                found.append(Difference(name, *key, values[0], values[1], change))
        functions = old.formats[name].functions, new.formats[name].functions
        for function in (one for one in functions[0] if one in functions[1]):
            was, now = (side[function] for side in functions)
            if was.form == now.form and was.bits != now.bits:
                change = _of_errors(was.worst_ulp, now.worst_ulp)
                before_, after_ = (f"{one.worst_ulp:.3g} ulp ({one.bits})" for one in (was, now))
                found.append(Difference(name, function, "error", before_, after_, change))
    return found


# An order costs nothing (`upgrade/compare`); of a sum that is not read the accumulator is missing.
_HARMLESS = {"bits": Change.BITS, "order": Change.ORDER}


def _of_errors(was: float, now: float) -> Change:
    """Of units in the last place, which may be infinite."""

    def beyond(one: float, other: float) -> bool:
        return one > other + ULP_TOLERANCE and one > ULP_FACTOR * other

    if beyond(now, was):
        return Change.WORSE
    return Change.BETTER if beyond(was, now) else Change.BITS


def check_same_stack(measured: Fingerprint, kind: str, versions: Mapping[str, str]) -> None:
    """Raise UsageProblem where a fingerprint is of another kind of device, or other versions.

    `versions`: by package, of the run that it is to belong to.
    """
    other = [("device", measured.device.kind, kind)]
    other += [(name, measured.environment.get(name, ""), versions.get(name, ""))
              for name in ("torch", "torch_npu", "driver")]  # fmt: skip
    for name, was, now in other:
        if was != now:
            raise UsageProblem(
                f"The fingerprint of --fingerprint is of another stack: {name} {was or 'none'}, "
                f"this run has {now or 'none'}. Take it anew: python -m harness fingerprint "
                f"--device {kind} --output FILE."
            )


def codes(found: Sequence[Difference]) -> set[ExitCode]:
    """The exit codes that differences call for: another order, and other bits alone, for none."""
    changes = {one.change for one in found}
    failed = {ExitCode.FAILED} if changes & {Change.OTHER, Change.WORSE} else set()
    return failed | ({ExitCode.IMPROVED} if Change.BETTER in changes else set())
