"""Which devices of a host the caller lets a run see; imports neither torch nor torch_npu."""

from __future__ import annotations

import os
from collections.abc import Mapping

from harness.system.status import UsageProblem

VARIABLE = "ASCEND_RT_VISIBLE_DEVICES"


def listed(text: str) -> list[int] | None:
    """The numbers of a list such as "0,1,5"; None when it is none."""
    parts = [part.strip() for part in text.split(",")]
    return [int(part) for part in parts] if all(part.isdecimal() for part in parts) else None


def npu_ids(environ: Mapping[str, str] = os.environ) -> list[int] | None:
    """The host's numbers of the visible NPUs, in the order in which torch_npu counts them.

    None where ASCEND_RT_VISIBLE_DEVICES is not set: all are visible.  Raises UsageProblem when it
    holds anything but ascending numbers, which CANN would cut short without a word.
    """
    given = environ.get(VARIABLE, "").strip()
    if not given:
        return None
    numbers = listed(given)
    if numbers is None or numbers != sorted(set(numbers)):
        raise UsageProblem(
            f"{VARIABLE}={given} is no list of ascending device numbers: give one such as 0,1,5."
        )
    return numbers


def emulated_ids(total: int, environ: Mapping[str, str] = os.environ) -> list[int]:
    """The same for the emulator, which has `total` devices; never empty.  Raises UsageProblem."""
    visible = npu_ids(environ)
    found = [number for number in range(total) if visible is None or number in visible]
    if not found:
        raise UsageProblem(
            f"{VARIABLE}={environ[VARIABLE]} leaves no device of the emulator, which has 0 to "
            f"{total - 1}."
        )
    return found
