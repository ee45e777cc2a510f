"""Takes the fingerprint of a device's arithmetic, judges it, and compares two.

Every trait is judged by the forms that public sources give such devices (`judgement/published`);
one that no source says anything about is information.  The elementary functions are held to what
operators are allowed one by one.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from harness.cases.formats import FORMATS, dtype_and_numerics
from harness.judgement import published
from harness.records.fingerprint import Fingerprint, FormatTraits
from harness.system import environment
from harness.system.status import CaseProblem, ExitCode, UsageProblem, worst_exit_code

if TYPE_CHECKING:
    from harness.execution.worker import DeviceWorker

SECONDS = 120.0  # for a group of probes, which take less than one
# The worst errors of one algorithm in another order differ by less than both: a rounding, and what
# two honest roundings differ by (docs/verdict.md).
ULP_TOLERANCE = 0.5
ULP_FACTOR = 1.5


def take(
    worker: DeviceWorker,
    formats: Sequence[str] = tuple(FORMATS),
    say: Callable[[str], None] = lambda text: None,
) -> Fingerprint:
    """Ask a device's process for everything; `say` hears of each format.

    What does not run is a sentence of its format, and costs itself alone.  Raises UsageProblem
    when the device is not there, or for a format that is none.
    """
    from harness.execution import probe_requests as requests  # brings torch in

    dtypes = {name: dtype_and_numerics(name)[0] for name in formats}
    device = worker.ask(requests.DescribeRequest(), SECONDS)
    found = {}
    for name, dtype in dtypes.items():
        say(name)
        seen = FormatTraits(dtype=dtype)
        for group, (names, _) in requests.GROUPS.items():
            for part in _group(worker, requests.ProbeRequest(group, name, names)):
                seen = seen.with_more(part)
        found[name] = seen
    return Fingerprint(
        taken=datetime.datetime.now(datetime.timezone.utc),
        emulated=device.emulated,
        device=device,
        environment=environment.capture(),
        formats=found,
    )


def _group(worker: DeviceWorker, request: object) -> Iterator[FormatTraits]:
    """A group at once; where that fails, one by one, so that each costs itself alone."""
    from harness.execution.probe_requests import ProbeRequest

    assert isinstance(request, ProbeRequest)
    dtype = dtype_and_numerics(request.format)[0]
    try:
        yield worker.ask(request, SECONDS)
    except CaseProblem as problem:
        if len(request.names) == 1:
            said = f"{request.names[0]} ({request.group}): {problem.status.value}: {problem.reason}"
            yield FormatTraits(dtype=dtype, problems=[said])
            return
        for name in request.names:
            yield from _group(worker, dataclasses.replace(request, names=(name,)))


def unpublished(found: Fingerprint) -> list[str]:
    """What matches none of the published forms, a sentence each."""
    said = []
    for name, operator, trait, value in found.traits():
        one = found.formats[name]
        settings = {**found.device.details, **one.numerics}
        device = published.Device(found.device.kind, found.device.name, settings)
        rule = published.rule(device, one.dtype, operator, trait)
        if rule is not None and not rule.allows(value):
            said.append(
                f"{name}: {operator}: {trait}: {value}; published is "
                f"{' or '.join(one.rstrip('*') for one in rule.values)} ({rule.source})."
            )
    for name, one in found.formats.items():
        for function, seen in one.functions.items():
            if seen.of_allowed > 1:
                said.append(
                    f"{name}: {function}: off by {seen.worst_ulp:.3g} units in the last place at "
                    f"{seen.at:.6g}, {seen.of_allowed:.3g} times what rounding may do to it "
                    "(operators one by one, docs/verdict.md)."
                )
    return said


class Change(enum.Enum):
    """What became of one trait between two fingerprints."""

    OTHER = "another form"
    WORSE = "less accurate"
    BETTER = "more accurate"
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
                change = Change.BITS if key[1] == "bits" else Change.OTHER
                found.append(Difference(name, *key, values[0], values[1], change))
        functions = old.formats[name].functions, new.formats[name].functions
        for function in (one for one in functions[0] if one in functions[1]):
            was, now = (side[function] for side in functions)
            if was.form == now.form and was.bits != now.bits:
                change = _of_errors(was.worst_ulp, now.worst_ulp)
                before_, after_ = (f"{one.worst_ulp:.3g} ulp ({one.bits})" for one in (was, now))
                found.append(Difference(name, function, "error", before_, after_, change))
    return found


def _of_errors(was: float, now: float) -> Change:
    """Of units in the last place, which may be infinite."""

    def beyond(one: float, other: float) -> bool:
        return one > other + ULP_TOLERANCE and one > ULP_FACTOR * other

    if beyond(now, was):
        return Change.WORSE
    return Change.BETTER if beyond(was, now) else Change.BITS


def exit_code(said: Sequence[str], found: Sequence[Difference], asked: Fingerprint) -> ExitCode:
    """1 for what is published nowhere and for another form; 12 where something could not be asked.

    More accurate functions alone are 11; other bits of the same form are no failure.
    """
    changes = {one.change for one in found}
    codes = {ExitCode.FAILED} if said or changes & {Change.OTHER, Change.WORSE} else set()
    if Change.BETTER in changes:
        codes.add(ExitCode.IMPROVED)
    if any(one.problems for one in asked.formats.values()):
        codes.add(ExitCode.INCOMPLETE)
    return worst_exit_code(codes)
