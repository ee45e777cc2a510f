"""References and inputs on disk, named by what they depend on or hold.

    DIR/references/<sha256 of the key>.safetensors    what a CPU leg gave; what a model's
                                                      preprocessing is; what images were made into
    DIR/inputs/<sha256 of the content>.safetensors    prepared images, see inputs.py

Entries are written at once or not at all, hold no path of the machine that made them, and carry a
digest: a damaged one is said to be damaged and made again, never trusted.  Whatever the disk does,
a run goes on without the cache.  A file's modification time is when it was last used.

An entry vouches for itself only.  It is believed when this user wrote it in a folder where nobody
else can write, or when it is signed with the key that the user names; nothing else is read.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import re
import stat
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.cases import inputs
from harness.cases.case import InputSource
from harness.cases.inputs import InputSet
from harness.judgement.metrics import Array
from harness.system import files, foreign, private, quantities, signing
from harness.system.status import UsageProblem

SIZE_VARIABLE = "HARNESS_REFERENCE_CACHE_SIZE"
# A model of EfficientNet's size with six images takes 11 MB in both profiles: this is room for some
# nine hundred, and still fits the 14 GB of disk that hosted CI runners leave free.
DEFAULT_SIZE = 10 * 10**9
# A run reads its inputs long after they were prepared, and a write that is still going on has a
# file of its own: neither is removed before its time.
_INPUTS_IN_USE = datetime.timedelta(days=1)
_WRITE_IN_USE = datetime.timedelta(hours=1)
_ENTRY = re.compile(r"[0-9a-f]{64}\.safetensors|\.[0-9a-f]+\.safetensors\.\w+")
_PURPOSE = "reference"  # what a signature of an entry is for
_MAGIC_BYTES = 8  # a safetensors file begins with the length of its header


class ReferenceCacheWarning(UserWarning):
    """The cache could not be used as it should; results are not affected."""


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

    `kind`: "leg", "model", "prepared" (image files), "inputs", or "partial" for a write that was
    cut short.  `size` in bytes; `key`, `facts`: as stored, empty where the header cannot be read.
    """

    path: Path
    kind: str
    size: int
    used: datetime.datetime
    key: dict[str, Any] = dataclasses.field(default_factory=dict)
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    owner: int = -1  # uid


class _Damaged(Exception):
    """Why an entry is not to be trusted."""


def size_limit(asked: int | None = None) -> int:
    """The limit in bytes: as asked for, else $HARNESS_REFERENCE_CACHE_SIZE, else 10 GB.

    Raises UsageProblem when the variable holds no size.
    """
    given = os.environ.get(SIZE_VARIABLE)
    if asked is not None or not given:
        return DEFAULT_SIZE if asked is None else asked
    try:
        return quantities.size(given)
    except argparse.ArgumentTypeError as error:
        raise UsageProblem(f"${SIZE_VARIABLE}: {error}.") from error


class ReferenceCache:
    """A directory of references and inputs that holds about `size` bytes at most.

    With `size` 0 references are neither read nor written.  `key`: signs what is written; where it
    is given, only what it signed is read, whoever wrote it.  Without one nothing is read or
    written in a folder where others can write.
    """

    def __init__(self, directory: Path, size: int = DEFAULT_SIZE, key: bytes | None = None) -> None:
        self.directory = directory
        self.size = size
        self._key = key
        self._private: bool | None = None
        self._writes = size > 0
        self._spare: tempfile.TemporaryDirectory[str] | None = None

    def get(self, key: Mapping[str, Any]) -> Stored | None:
        """What is stored under a key, verified; None, after a warning, when it is damaged."""
        if not self.size or not self._usable():
            return None
        path = self._path(key)
        try:
            stored = _read(path, _text(key), self._key)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            _warn(f"{path} cannot be read ({error.strerror}): the reference is computed again.")
            return None
        except _Damaged as problem:
            _warn(f"{path} is damaged ({problem}): the reference is computed again.")
            self.remove(path)
            return None
        files.mark_used(path)
        return stored

    def put(
        self, key: Mapping[str, Any], arrays: Mapping[str, Array], facts: Mapping[str, Any]
    ) -> None:
        """Store arrays (NumPy, by name) and facts (JSON) under a key; oldest use is evicted.

        A disk that does not take it costs one warning, and nothing is written from then on.
        """
        from safetensors import SafetensorError

        needed = sum(array.nbytes for array in arrays.values())
        if not self._writes or needed > self.size or not self._usable():
            return
        try:
            _write(self._path(key), _text(key), arrays, facts, self._key)
            self._evict()
        except (OSError, SafetensorError) as error:
            self._writes = False
            _warn(
                f"References cannot be kept in {self.directory} ({_reason(error)}): this run goes "
                "on without; free space or give --reference-cache DIR."
            )

    def making(self, key: Mapping[str, Any]) -> contextlib.AbstractContextManager[None]:
        """Hold off other processes that are about to make the same reference.

        Whoever enters looks in the cache again: it may have been made meanwhile.
        """
        # Where others can write they could hold the lock as well.
        if not self._writes or not self._usable() or not self._private:
            return contextlib.nullcontext()
        return files.exclusive(self.directory, _named(_text(key)))

    def prepare_inputs(self, source: InputSource, data_config: dict[str, Any]) -> InputSet:
        """`inputs.prepare_inputs` in this cache; where it cannot write, in a temporary directory.

        Image files that were prepared before are found by their content, and not decoded again.
        Raises what `inputs.prepare_inputs` raises.
        """
        from safetensors import SafetensorError

        if self._spare is not None:
            return inputs.prepare_inputs(source, data_config, Path(self._spare.name))
        key = inputs.files_key(source, data_config) if self.size else None
        stored = self.get(key) if key else None
        known = (
            inputs.recall_inputs(stored.facts["set"], source, self.directory) if stored else None
        )
        if known is not None:
            return known
        try:
            made = inputs.prepare_inputs(source, data_config, self.directory)
        except (OSError, SafetensorError) as error:
            _warn(
                f"Inputs cannot be kept in {self.directory} ({_reason(error)}): this run keeps "
                "them in a temporary directory; free space or give --reference-cache DIR."
            )
            self._spare = tempfile.TemporaryDirectory(prefix="harness-inputs-")
            return inputs.prepare_inputs(source, data_config, Path(self._spare.name))
        if key:
            self.put(key, {}, {"inputs": made.description, "set": made.facts})
        return made

    def close(self) -> None:
        """Remove the temporary directory, where one had to be used."""
        if self._spare is not None:
            self._spare.cleanup()

    def entries(self) -> list[CacheEntry]:
        """All files of the cache, the longest unused first; headers are read, arrays are not."""
        return [_described(entry) for entry in self._files()]

    def problem(self, entry: CacheEntry) -> str:
        """Why a file is not to be trusted, "" for a sound one; reads it whole."""
        try:
            if entry.kind == "partial":
                raise _Damaged("a write was cut short")
            if entry.kind == "inputs":
                if inputs.stored_digest(entry.path) != entry.path.stem:
                    raise _Damaged("its content does not match its name")
            else:
                _read(entry.path, signing_key=self._key)
        except FileNotFoundError:
            return ""  # another process replaced or removed it
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        except _Damaged as problem:
            return str(problem)
        return ""

    def prune(
        self, max_size: int, older_than: datetime.timedelta | None = None
    ) -> list[CacheEntry]:
        """Remove what was not used for `older_than`, then the longest unused beyond `max_size`.

        Returns what was removed.  Inputs used within a day and writes within an hour stay.
        Raises OSError when a file cannot be removed.
        """
        now = datetime.datetime.now(datetime.timezone.utc)
        found = self._files()
        total = sum(entry.size for entry in found)
        removed = []
        for entry in found:
            age = now - entry.used
            if entry.kind == "inputs" and age < _INPUTS_IN_USE:
                continue
            if entry.kind == "partial" and age < _WRITE_IN_USE:
                continue
            old = entry.kind == "partial" or (older_than is not None and age > older_than)
            if (old or total > max_size) and entry.owner == os.geteuid():
                entry.path.unlink(missing_ok=True)
                total -= entry.size
                removed.append(entry)
        return removed

    @property
    def signed(self) -> bool:
        """Whether only what a key signed is believed."""
        return self._key is not None

    def trouble(self) -> str:
        """Who else decides what lies in the folder, a phrase; "" where only this user does.

        Makes the folder, for this user alone, where it is missing.  Raises OSError.
        """
        try:
            private.make(self.directory)
        except private.NotOurs as error:
            return str(error.strerror)
        return ""

    def _usable(self) -> bool:
        """Whether entries may be read and written; says once why not."""
        if self._private is None:
            try:
                found = self.trouble()
            except OSError:  # reading and writing say what is wrong
                return True
            self._private = not found
            if found and self._key is None:
                _warn(
                    f"References in {self.directory} are not used, since {found}: take that right "
                    "away, give --reference-cache DIR of your own, or sign a shared cache with "
                    "--reference-cache-key FILE."
                )
        return self._private or self._key is not None

    def remove(self, path: Path) -> None:
        """Remove an entry that this user wrote; nothing else is ever removed."""
        with contextlib.suppress(OSError):
            if path.lstat().st_uid == os.geteuid():
                path.unlink()

    def _evict(self) -> None:
        self.prune(self.size)

    def _path(self, key: Mapping[str, Any]) -> Path:
        return self.directory / "references" / f"{_named(_text(key))}.safetensors"

    def _files(self) -> list[CacheEntry]:
        found = []
        for folder, kind in (("references", "leg"), ("inputs", "inputs")):
            for path in _listed(self.directory / folder):
                try:
                    status = path.lstat()
                except FileNotFoundError:
                    continue  # removed by another process
                if not stat.S_ISREG(status.st_mode):
                    continue
                used = datetime.datetime.fromtimestamp(status.st_mtime, datetime.timezone.utc)
                partial = path.name.startswith(".")
                what = "partial" if partial else kind
                found.append(CacheEntry(path, what, status.st_size, used, owner=status.st_uid))
        return sorted(found, key=lambda entry: (entry.used, entry.path))


def _write(
    path: Path,
    key: str,
    arrays: Mapping[str, Array],
    facts: Mapping[str, Any],
    signing_key: bytes | None,
) -> None:
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


def _read(path: Path, key: str | None = None, signing_key: bytes | None = None) -> Stored:
    """Read and verify an entry of references/.  Raises OSError and _Damaged.

    The file is read whole before it is looked at: one that is replaced or cut meanwhile cannot
    end the process, as a mapped file would.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    with foreign.open_regular(path) as file:
        owner = os.fstat(file.fileno()).st_uid
        if signing_key is None and owner != os.geteuid():
            raise _Damaged(f"uid {owner} wrote it, and it is not signed with a key of yours")
        data = file.read()
    try:
        metadata = _metadata(data)
        tensors = load(data)
        text, facts = metadata["key"], foreign.loads(metadata["facts"])
        digest = files.sha256_tensors(tensors, extra=[text, metadata["facts"]])
        sound = digest == metadata["sha256"]
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise _Damaged("it is truncated or no safetensors file") from error
    if not sound:
        raise _Damaged("its content does not match its digest")
    signed = signing_key is None or signing.holds(
        signing_key, _PURPOSE, digest.encode(), metadata.get("signature")
    )
    if not signed:
        raise _Damaged("it is not signed with the key given")
    if path.stem != _named(text) or key not in (None, text):
        raise _Damaged("its name does not match its content")
    return Stored(
        arrays={name: tensors[name].numpy() for name in facts["arrays"]},
        facts=facts,
        made=datetime.datetime.fromisoformat(facts["made"]),
        owner=owner,
    )


def _metadata(data: bytes) -> dict[str, str]:
    length = int.from_bytes(data[:_MAGIC_BYTES], "little")
    header = foreign.loads(data[_MAGIC_BYTES : _MAGIC_BYTES + length])
    metadata: dict[str, str] = header["__metadata__"]
    return metadata


def _described(entry: CacheEntry) -> CacheEntry:
    """The entry with what its header says."""
    if entry.kind == "partial":
        return entry
    try:
        with entry.path.open("rb") as file:
            length = int.from_bytes(file.read(_MAGIC_BYTES), "little")
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


def _listed(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        yield from (path for path in folder.iterdir() if _ENTRY.fullmatch(path.name))


def _text(key: Mapping[str, Any]) -> str:
    return json.dumps(key, sort_keys=True)


def _named(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split())


def _warn(text: str) -> None:
    warnings.warn(text, ReferenceCacheWarning, stacklevel=3)
