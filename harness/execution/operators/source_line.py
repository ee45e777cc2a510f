"""The line of a model's own source that called an operator: what a bug report points at."""

from __future__ import annotations

import sys
from types import FrameType

# Where the model was called: beyond it is nobody's line.
_CALLER = "harness.cases.samples"
# Whose frames lie between the model and the operator.
_BETWEEN = frozenset(("torch", "harness"))


def current() -> str:
    """File and line of the innermost call that is neither torch's nor the harness'.

    "timm/models/resnet.py:231"; "" where there is none.  Paths begin at the package, and a script's
    has no folder: they say nothing of this machine.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name == _CALLER:
            return ""
        if name.partition(".")[0] not in _BETWEEN and not name.startswith("contextlib"):
            return f"{_path(name, frame.f_code.co_filename)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def _path(module: str, file: str) -> str:
    """A file from its module's package on, with slashes."""
    parts = file.replace("\\", "/").split("/")
    package = module.partition(".")[0]
    if "." in module and package in parts[:-1]:
        start = len(parts) - 1 - parts[::-1].index(package)
        return "/".join(parts[start:])
    return parts[-1]
