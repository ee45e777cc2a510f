"""What a script tells `python -m harness emulate`: its module, and the kernels of its run."""

from __future__ import annotations

import re
from pathlib import Path

from harness.devices import emulated_kernels
from harness.system import foreign

_SAID = re.compile(r"^# harness emulate: kernels=(\S+) module=(\S*)$", re.MULTILINE)
_LONGEST = 1 << 20  # bytes of a script


def line(module: str, kernels: str | None) -> str:
    """The line of a script about an operator that was found in `module` (a second call: "a#2")."""
    path = "" if module.startswith("(") else module.partition("#")[0]
    return f"# harness emulate: kernels={kernels or emulated_kernels.DEFAULT} module={path}"


def read(script: Path) -> tuple[str, str]:
    """Kernels and module that a script names; the default ones and "" where it does not.

    Raises OSError for a script that is no regular file.
    """
    text = foreign.read_bytes(script, _LONGEST).decode("utf-8", "replace")
    found = _SAID.search(text)
    return (found[1], found[2]) if found is not None else (emulated_kernels.DEFAULT, "")
