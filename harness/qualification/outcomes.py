"""What came of each call, and how it is written down; no torch here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from harness.system.status import Status, worst

# Checks that are made of every call, and those of `--variants`, in words for the certificate.
BASE = {
    "typical": "numbers as operators see them in trained models",
    "hard": "off-centre, cancelling, tiny, large, tied, subnormal numbers and signed zeros",
    "nonfinite": "NaN and infinities give the CPU's answer",
    "two runs": "two runs agree bit by bit",
    "NaN memory": "the second run's result was written over memory full of NaN",
    "gaps": "NaN between the elements of arguments that are part of a greater tensor",
}
VARIANTS = {
    "strided": "every argument with gaps between its elements, at another offset",
    "permuted": "the batch in reverse order",
    "split": "the first item of the batch alone",
    "grown": "the batch four times over",
}


@dataclasses.dataclass(frozen=True)
class SetResult:
    """A call on one set of inputs.

    `bits`: hash of the result, "" for none; `inputs`: checksum of the arguments, which are the same
    on every host; `ratio`, `slice_ratio`: error in units of what rounding may cost, None where it
    was not judged; `where`: the worst slice.
    """

    status: Status
    reason: str = ""
    bits: str = ""
    inputs: str = ""
    ratio: float | None = None
    slice_ratio: float | None = None
    where: str = ""
    judged: bool = True

    def same_bits(self, other: SetResult | None) -> bool:
        """Whether both are the same result of the same inputs."""
        return (
            other is not None
            and bool(self.bits)
            and (self.bits, self.inputs) == (other.bits, other.inputs)
        )


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A call on a device.

    `id`, `signature`: of the catalogue; `cropped`: what was made smaller, "" for nothing; `sets`:
    by name; `checks`: names of those that were made (`BASE`, `VARIANTS`); `problem`: why nothing
    could be measured, with `status`; `device_seconds`, `host_seconds`: on the device, and for
    inputs, references and comparison; `variant_seconds`: of `--variants`, apart.
    """

    id: str
    signature: str
    status: Status
    reason: str = ""
    cropped: str = ""
    sets: Mapping[str, SetResult] = dataclasses.field(default_factory=dict)
    checks: tuple[str, ...] = ()
    device_seconds: float = 0.0
    host_seconds: float = 0.0
    variant_seconds: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether it was judged, and did not pass."""
        return not (self.status.is_error or self.status in (Status.PASS, Status.SKIP))

    @property
    def worst_ratio(self) -> float | None:
        """The greatest error of a whole result or slice, in units of its limit's unit."""
        found = [
            value
            for item in self.sets.values()
            for value in (item.ratio, item.slice_ratio)
            if value is not None
        ]
        return max(found, default=None)

    @property
    def plain(self) -> dict[str, Any]:
        """As JSON."""
        found = dataclasses.asdict(self)
        found["status"] = self.status.value
        found["sets"] = {
            name: {
                key: value
                for key, value in {**dataclasses.asdict(item), "status": item.status.value}.items()
                if value not in ("", None)
            }
            for name, item in self.sets.items()
        }
        return {"type": "call", **{key: value for key, value in found.items() if value != ""}}

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Outcome:
        """From JSON.  Raises KeyError, TypeError or ValueError for what is none."""
        values = {key: value for key, value in found.items() if key != "type"}
        sets = {
            name: SetResult(**{**item, "status": Status(item["status"])})
            for name, item in values.pop("sets", {}).items()
        }
        return cls(
            **{
                **values,
                "status": Status(values["status"]),
                "sets": sets,
                "checks": tuple(values.get("checks", ())),
            }
        )


def settled(outcome: Outcome, earlier: Outcome | None) -> Outcome:
    """An outcome with the earlier verdict on the sets whose bits did not change.

    Its status is the worst of its sets'; a call without any stays as it is.
    """
    if not outcome.sets:
        return outcome
    sets = {}
    for name, item in outcome.sets.items():
        before = earlier.sets.get(name) if earlier is not None else None
        if not item.judged and before is not None:
            item = dataclasses.replace(before, judged=False)
        sets[name] = item
    status = worst(item.status for item in sets.values())
    reason = next((item.reason for item in sets.values() if item.status is status), "")
    return dataclasses.replace(outcome, sets=sets, status=status, reason=reason)
