"""Takes the fingerprint of a device's arithmetic, and judges it.

Every trait is judged by the forms that public sources give such devices (`judgement/published`);
one that no source says anything about is information.  The elementary functions are held to what
operators are allowed one by one.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from harness.cases.formats import FORMATS, dtype_and_numerics
from harness.judgement import published
from harness.records.fingerprint import Fingerprint, FormatTraits
from harness.records.fingerprint_changes import Difference, codes
from harness.system import environment
from harness.system.status import CaseProblem, ExitCode, worst_exit_code

if TYPE_CHECKING:
    from harness.execution.worker import DeviceWorker

SECONDS = 120.0  # for a group of probes, which take less than one


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


def exit_code(said: Sequence[str], found: Sequence[Difference], asked: Fingerprint) -> ExitCode:
    """1 for what is published nowhere and for another form; 12 where something could not be asked.

    More accurate functions alone are 11; other bits of the same form are no failure.
    """
    found_codes = codes(found) | ({ExitCode.FAILED} if said else set())
    if any(one.problems for one in asked.formats.values()):
        found_codes.add(ExitCode.INCOMPLETE)
    return worst_exit_code(found_codes)
