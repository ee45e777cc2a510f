"""Text that is sent to others: without host names, user names, paths and credentials."""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Mapping
from typing import Any

from harness.system import environment, shown

# An absolute path, or one below a home; of an address all but its scheme.
_PATH = re.compile(r"(?<![\w.)~-])(?:~[\w.-]*)?(?:/[\w.@+~-]+)+/?")
# They name nobody, and are words of records.
_COMMON = frozenset("root user admin ubuntu localhost npu cpu cuda ascend test".split())
_SHORTEST = 3


def names() -> Mapping[str, str]:
    """What must not be sent -> what stands in its place: this host's and this user's names."""
    host = socket.gethostname()
    found = {host: "(host)", host.partition(".")[0]: "(host)"}
    found |= dict.fromkeys(_users(), "(user)")
    return {
        name: put
        for name, put in found.items()
        if len(name) >= _SHORTEST and name.lower() not in _COMMON
    }


def anonymous(value: Any, hidden: Mapping[str, str]) -> Any:
    """JSON with every string, keys too, as `text` gives it."""
    if isinstance(value, str):
        return text(value, hidden)
    if isinstance(value, dict):
        return {text(str(key), hidden): anonymous(item, hidden) for key, item in value.items()}
    return [anonymous(item, hidden) for item in value] if isinstance(value, list) else value


def text(given: str, hidden: Mapping[str, str]) -> str:
    """A text without what `names` gives, paths and credentials."""
    found = _PATH.sub("(path)", environment.redacted(shown.lines(given)))
    for name, put in hidden.items():
        found = _word(name).sub(put, found)
    return found


def left(given: str, hidden: Mapping[str, str]) -> list[str]:
    """Names and paths that are still in a text."""
    return [name for name in hidden if _word(name).search(given)] + _PATH.findall(given)


def _word(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", re.IGNORECASE)


def _users() -> list[str]:
    found = [os.environ.get(name, "") for name in ("USER", "LOGNAME", "SUDO_USER")]
    try:
        found.append(getpass.getuser())
    except (OSError, KeyError):  # a container's user without an entry
        pass
    return [name for name in found if name]
