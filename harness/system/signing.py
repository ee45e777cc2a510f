"""Signatures with a key that several people share: HMAC-SHA256 (RFC 2104), of the standard library.

One secret signs and verifies: what it proves is that a holder of the key wrote something.  That is
what a shared cache and a gate need; a public key would add a dependency and prove no more to them.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from pathlib import Path

from harness.system import foreign
from harness.system.status import UsageProblem

KEY_VARIABLE = "HARNESS_CACHE_KEY"
_SHORTEST = 32  # bytes: as long as what SHA-256 gives
_LONGEST = 1 << 16


def read_key(path: Path) -> bytes:
    """The bytes of a key file.

    Raises UsageProblem when it cannot be read, is no regular file, is shorter than 32 bytes, or
    everybody can read it or others can write to it.
    """
    try:
        mode = path.stat().st_mode
        key = foreign.read_bytes(path, _LONGEST)
    except OSError as error:
        raise UsageProblem(f"The key {path} cannot be read: {error.strerror}.") from error
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise UsageProblem(
            f"The key {path} is not secret (mode {stat.S_IMODE(mode):04o}): chmod 600, or 640 for "
            "a group that shares it."
        )
    if len(key) < _SHORTEST:
        raise UsageProblem(
            f"The key {path} has {len(key)} bytes, fewer than {_SHORTEST}: make one with "
            f"`head -c {_SHORTEST} /dev/urandom > FILE`."
        )
    return key


def cache_key(given: Path | None) -> bytes | None:
    """The key of a shared cache: of the file given, else of $HARNESS_CACHE_KEY; None for neither.

    Raises UsageProblem as `read_key` does.
    """
    named = os.environ.get(KEY_VARIABLE)
    path = given or (Path(named) if named else None)
    return None if path is None else read_key(path)


def sign(key: bytes, purpose: str, data: bytes) -> str:
    """The signature of data as hex; `purpose` keeps one of a kind from standing for another."""
    return hmac.new(key, purpose.encode() + b"\0" + data, hashlib.sha256).hexdigest()


def holds(key: bytes, purpose: str, data: bytes, signature: object) -> bool:
    """Whether `signature` is what `sign` gives; takes the same time for every wrong one."""
    return isinstance(signature, str) and hmac.compare_digest(
        sign(key, purpose, data).encode(), signature.encode("utf-8", "replace")
    )
