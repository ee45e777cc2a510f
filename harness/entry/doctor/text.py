"""What the doctor found, as text."""

from __future__ import annotations

import textwrap

from harness.entry.doctor.examine import Examination, Level

_WIDTH = 100
_INDENT = " " * 11


def render(found: Examination) -> str:
    """Every finding with its remedy, then one line that says what they come to."""
    lines = []
    for item in found.findings:
        lines.append(_wrapped(f"{item.level.value:<9}  {item.check}: {item.found}"))
        if item.remedy:
            lines.append(_wrapped(f"{_INDENT}-> {item.remedy}"))
    return "\n".join([*lines, "", line(found)])


def line(found: Examination) -> str:
    """What the findings come to."""
    counts = {
        level: sum(item.level is level for item in found.findings)
        for level in (Level.FAILURE, Level.WARNING)
    }
    if counts[Level.FAILURE]:
        return f"A run on {found.device} will fail: {counts[Level.FAILURE]} failure(s) above."
    more = f", {counts[Level.WARNING]} warning(s)" if counts[Level.WARNING] else ""
    return f"A run on {found.device} finds what it needs{more}{found.device.caveat}."


def _wrapped(text: str) -> str:
    return textwrap.fill(
        text,
        _WIDTH,
        subsequent_indent=_INDENT + "   " * text.startswith(" "),
        break_long_words=False,
        break_on_hyphens=False,
    )
