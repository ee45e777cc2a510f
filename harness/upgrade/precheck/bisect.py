"""The first release of torch_npu with which an architecture fails, by halving the list of releases.

Releases are taken in the order of their version numbers, which is not quite that of their dates: a
post of an old series comes before the next series.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.system.status import ExitCode
from harness.upgrade.precheck import stacks
from harness.upgrade.precheck.check import Checked, check
from harness.upgrade.precheck.stacks import Say

Try = Callable[[str], Checked]


@dataclasses.dataclass(frozen=True)
class Bisection:
    """What was tried, in this order, and what it comes to in one sentence."""

    tried: tuple[Checked, ...]
    sentence: str
    code: ExitCode


def bisect(old: str, new: str, architectures: Sequence[str], work: Path, say: Say) -> Bisection:
    """Find the first failing release after `old` and up to `new`.

    Raises UsageProblem where one of them is no version.
    """
    first, last = stacks.version(old), stacks.version(new)
    try:
        between = [release for release in stacks.published(say) if first < release < last]
    except stacks.Unavailable as reason:
        return Bisection((), str(reason), ExitCode.INCOMPLETE)
    releases = [str(release) for release in (first, *between, last)]
    return halve(releases, lambda version: check(version, architectures, work, say))


def halve(releases: Sequence[str], attempt: Try) -> Bisection:
    """Bisect an ascending list whose first is expected to be right and whose last to fail.

    A release that cannot be tried is passed over for its neighbours.
    """
    tried: dict[str, Checked] = {}

    def ask(version: str) -> Checked:
        if version not in tried:
            tried[version] = attempt(version)
        return tried[version]

    def ended(sentence: str, code: ExitCode) -> Bisection:
        return Bisection(tuple(tried.values()), sentence, code)

    old, new = releases[0], releases[-1]
    for version in (old, new):
        if reason := ask(version).unavailable:
            return ended(f"{version} could not be tried: {reason}", ExitCode.INCOMPLETE)
    if ask(old).failures:
        return ended(f"{old} fails already: give an older one that is right.", ExitCode.INCOMPLETE)
    if not ask(new).failures:
        return ended(f"{new} is right: there is nothing to find.", ExitCode.OK)
    good, bad = 0, len(releases) - 1
    while inner := [i for i in range(good + 1, bad) if not _barred(tried, releases[i])]:
        middle = min(inner, key=lambda i: abs(i - (good + bad) / 2))
        found = ask(releases[middle])
        if found.unavailable:
            continue
        good, bad = (good, middle) if found.failures else (middle, bad)
    skipped = ", ".join(releases[good + 1 : bad])
    unsure = f" (between them {skipped} could not be tried)" if skipped else ""
    return ended(
        f"{releases[bad]} is the first that fails; {releases[good]} is right{unsure}: "
        f"{'; '.join(tried[releases[bad]].failures)}",
        ExitCode.FAILED,
    )


def _barred(tried: dict[str, Checked], version: str) -> bool:
    return version in tried and bool(tried[version].unavailable)
