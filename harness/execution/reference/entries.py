"""One entry of the reference cache: a safetensors file that carries its key, facts and digest."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.judgement.metrics import Array
from harness.system import files, foreign, signing

_PURPOSE = "reference"  # what a signature of an entry is for


@dataclasses.dataclass(frozen=True)
class Stored:
    """What an entry holds: arrays by name, and facts (JSON) with when it was `made` (UTC)."""

    arrays: dict[str, Array]
    facts: dict[str, Any]
    made: datetime.datetime
    owner: int = -1  # uid of who wrote it


@dataclasses.dataclass(frozen=True)
class CacheEntry:
    """A file of the cache, without its arrays.

    `kind`: "leg", "shares", "model", "prepared" (image files), "inputs", or "partial" for a write
    that was cut short.  `size` in bytes; `key`, `facts`: as stored, empty where the header cannot
    be read.
    """

    path: Path
    kind: str
    size: int
    used: datetime.datetime
    key: dict[str, Any] = dataclasses.field(default_factory=dict)
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    owner: int = -1  # uid


class Damaged(Exception):
    """Why an entry is not to be trusted."""


def write_entry(
    path: Path,
    key: str,
    arrays: Mapping[str, Array],
    facts: Mapping[str, Any],
    signing_key: bytes | None,
) -> None:
    """Write an entry of references/, signed where there is a key.  Raises OSError."""
    import torch

    made = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    # safetensors sorts: the order is the model's own.
    text = json.dumps({**facts, "made": made, "arrays": list(arrays)}, sort_keys=True)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    digest = files.sha256_tensors(tensors, extra=[key, text])
    metadata = {"key": key, "facts": text, "sha256": digest}
    if signing_key is not None:
        metadata["signature"] = signing.sign(signing_key, _PURPOSE, digest.encode())
    files.save_tensors(tensors, path, metadata)


def read_entry(path: Path, key: str | None = None, signing_key: bytes | None = None) -> Stored:
    """Read and verify an entry of references/.  Raises OSError and Damaged.

    The file is read whole before it is looked at: one that is replaced or cut meanwhile cannot
    end the process, as a mapped file would.
    """
    with foreign.open_regular(path) as file:
        owner = os.fstat(file.fileno()).st_uid
        if signing_key is None and owner != os.geteuid():
            raise Damaged(f"uid {owner} wrote it, and it is not signed with a key of yours")
        data = file.read()
    try:
        tensors, metadata = files.tensors_of(data)
        text, facts = metadata["key"], foreign.loads(metadata["facts"])
        digest = files.sha256_tensors(tensors, extra=[text, metadata["facts"]])
        sound = digest == metadata["sha256"]
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged("it is truncated or no safetensors file") from error
    if not sound:
        raise Damaged("its content does not match its digest")
    signed = signing_key is None or signing.holds(
        signing_key, _PURPOSE, digest.encode(), metadata.get("signature")
    )
    if not signed:
        raise Damaged("it is not signed with the key given")
    if path.stem != name_of(text) or key not in (None, text):
        raise Damaged("its name does not match its content")
    return Stored(
        arrays={name: tensors[name].numpy() for name in facts["arrays"]},
        facts=facts,
        made=datetime.datetime.fromisoformat(facts["made"]),
        owner=owner,
    )


def described(entry: CacheEntry) -> CacheEntry:
    """The entry with what its header says."""
    if entry.kind == "partial":
        return entry
    try:
        with foreign.open_regular(entry.path) as file:
            length = int.from_bytes(file.read(files.HEADER_LENGTH_BYTES), "little")
            header = foreign.loads(file.read(min(length, entry.size)))
        metadata = header["__metadata__"]
        if entry.kind == "inputs":
            facts = {
                "labels": foreign.loads(metadata["labels"]),
                "shape": header["images"]["shape"],
            }
            return dataclasses.replace(entry, facts=facts)
        key = foreign.loads(metadata["key"])
        facts = foreign.loads(metadata["facts"])
        return dataclasses.replace(entry, kind=key["kind"], key=key, facts=facts)
    except (OSError, KeyError, TypeError, ValueError):
        return entry  # `problem` says why


def key_text(key: Mapping[str, Any]) -> str:
    """A key as entries hold it."""
    return json.dumps(key, sort_keys=True)


def name_of(text: str) -> str:
    """What an entry is called by the text of its key."""
    return hashlib.sha256(text.encode()).hexdigest()
