"""Lines of schema version 1 as version 2 has them.

Version 1 kept findings as the text "status: reason", the size of the images in the description of
the inputs alone, and of an arithmetic its text alone.  Here, and nowhere else, these are read.
"""

from __future__ import annotations

import re
from typing import Any

from harness.system.status import Stage, Status

_CHANNELS = 3  # version 1 had no other inputs
_STATUSES = {status.value for status in Status}


def upgraded(raw: dict[str, Any]) -> dict[str, Any]:
    """A line of version 1 (parsed JSON) as one of version 2; what is malformed stays as it is."""
    line = {**raw, "schema_version": 2}
    if raw.get("type") != "case":
        return line
    findings = raw.get("findings")
    if isinstance(findings, list):
        line["findings"] = [_finding(text, raw) for text in findings]
    labels, size = raw.get("labels"), re.search(r"(\d+)x(\d+)$", str(raw.get("inputs", "")))
    if isinstance(labels, list) and labels and size is not None:
        line["inputs_shape"] = [len(labels), _CHANNELS, int(size[1]), int(size[2])]
    found = raw.get("localization")
    if isinstance(found, dict):
        text = str(found.get("arithmetic", ""))
        # Shortened factors are named after "with", by their format or as "12-bit".
        full = text.startswith("float32") and not re.search(r"HF32|TF32|-bit", text)
        line["localization"] = {**found, "full": full}
    return line


def _finding(text: Any, raw: dict[str, Any]) -> Any:
    status, separator, reason = str(text).partition(": ")
    if not separator or status not in _STATUSES:
        return text
    # Only the leading finding's stage was kept.
    leading = reason == raw.get("reason") and raw.get("stage")
    return {"status": status, "stage": leading or Stage.COMPARE.value, "reason": reason}
