"""TOML's reader: `tomllib`, in the standard library from Python 3.11 on and `tomli` before."""

import sys

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from typing import Any

from harness.system.foreign import TooDeep

__all__ = ["loads", "tomllib"]


def loads(text: str) -> dict[str, Any]:
    """Parse TOML.  Raises ValueError: tomllib.TOMLDecodeError, or TooDeep."""
    try:
        return tomllib.loads(text)
    except (RecursionError, MemoryError):
        raise TooDeep("it is nested too deep or too large") from None
