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
import collections
import contextlib
import datetime
import os
import re
import secrets
import stat
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.cases import inputs
from harness.cases.case import InputSource
from harness.cases.inputs import InputSet
from harness.execution.reference.entries import (
    CacheEntry,
    Damaged,
    Stored,
    described,
    key_text,
    name_of,
    read_entry,
    write_entry,
)
from harness.judgement.metrics import Array
from harness.system import files, private, quantities
from harness.system.messages import say
from harness.system.status import CaseProblem, Stage, Status, UsageProblem

SIZE_VARIABLE = "HARNESS_REFERENCE_CACHE_SIZE"
# A model of EfficientNet's size with six images takes 11 MB in both profiles: this is room for some
# nine hundred, and still fits the 14 GB of disk that hosted CI runners leave free.
DEFAULT_SIZE = 10 * 10**9
# A run reads its inputs long after they were prepared, and a write that is still going on has a
# file of its own: neither is removed before its time.
_INPUTS_IN_USE = datetime.timedelta(days=1)
_WRITE_IN_USE = datetime.timedelta(hours=1)
# Of what another user wrote, so much is computed again.
_CHECKED_ONE_IN = 20
_ENTRY = re.compile(r"[0-9a-f]{64}\.safetensors|\.[0-9a-f]+\.safetensors\.\w+")


class ReferenceCacheWarning(UserWarning):
    """The cache could not be used as it should; results are not affected."""


def false(stored: Stored, what: str) -> CaseProblem:
    """The problem that a doubted entry turned out to be another than this host computes."""
    return CaseProblem(
        Status.ERROR_HARNESS,
        Stage.REFERENCE,
        say(
            "cache.false",
            "What the shared cache holds of {what}, written by uid {owner}, differs from what "
            "this host computes: nothing in that cache is to be believed until it is known why; "
            "give another --reference-cache.",
            what=what,
            owner=stored.owner,
        ),
    )


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
        self._of_others: collections.Counter[str] = collections.Counter()

    def get(self, key: Mapping[str, Any]) -> Stored | None:
        """What is stored under a key, verified; None, after a warning, when it is damaged."""
        if not self.size or not self._usable():
            return None
        path = self._path(key)
        try:
            stored = read_entry(path, key_text(key), self._key)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            _warn(f"{path} cannot be read ({error.strerror}): the reference is computed again.")
            return None
        except Damaged as problem:
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
            write_entry(self._path(key), key_text(key), arrays, facts, self._key)
            self._evict()
        except (OSError, SafetensorError) as error:
            self._writes = False
            _warn(
                f"References cannot be kept in {self.directory} ({_reason(error)}): this run goes "
                "on without; free space or give --reference-cache DIR."
            )

    def doubts(self, stored: Stored, kind: str) -> bool:
        """Whether to compute again what another user wrote: the first of a kind, and 1 in 20 more.

        `kind`: as `CacheEntry.kind`.  The same key promises the same bits: what differs is `false`.
        """
        if stored.owner == os.geteuid():
            return False
        self._of_others[kind] += 1
        # By chance, which nobody can foresee.
        return self._of_others[kind] == 1 or not secrets.randbelow(_CHECKED_ONE_IN)

    def making(self, key: Mapping[str, Any]) -> contextlib.AbstractContextManager[None]:
        """Hold off other processes that are about to make the same reference.

        Whoever enters looks in the cache again: it may have been made meanwhile.
        """
        # Where others can write they could hold the lock as well.
        if not self._writes or not self._usable() or not self._private:
            return contextlib.nullcontext()
        return files.exclusive(self.directory, name_of(key_text(key)))

    def prepare_inputs(self, source: InputSource, data_config: dict[str, Any]) -> InputSet:
        """`inputs.prepare_inputs` in this cache; where it cannot write, in a temporary directory.

        Image files that were prepared before are found by their content, and not decoded again.
        Raises what `inputs.prepare_inputs` raises.
        """
        from safetensors import SafetensorError

        if self._spare is not None:
            return self._apart(source, data_config)
        key = inputs.files_key(source, data_config) if self.size else None
        stored = self.get(key) if key else None
        known = (
            inputs.recall_inputs(stored.facts["set"], source, self.directory) if stored else None
        )
        doubted = stored is not None and self.doubts(stored, "prepared")
        if known is not None and not doubted:
            return known
        if not self._usable():
            return self._apart(source, data_config)
        try:
            made = inputs.prepare_inputs(source, data_config, self.directory)
        except (OSError, SafetensorError) as error:
            _warn(
                f"Inputs cannot be kept in {self.directory} ({_reason(error)}): this run keeps "
                "them in a temporary directory; free space or give --reference-cache DIR."
            )
            return self._apart(source, data_config)
        if doubted and stored is not None and stored.facts["set"]["sha256"] != made.sha256:
            raise false(stored, made.description)
        if key:
            self.put(key, {}, {"inputs": made.description, "set": made.facts})
        return made

    def _apart(self, source: InputSource, data_config: dict[str, Any]) -> InputSet:
        if self._spare is None:
            self._spare = tempfile.TemporaryDirectory(prefix="harness-inputs-")
        return inputs.prepare_inputs(source, data_config, Path(self._spare.name))

    def close(self) -> None:
        """Remove the temporary directory, where one had to be used."""
        if self._spare is not None:
            self._spare.cleanup()

    def entries(self) -> list[CacheEntry]:
        """All files of the cache, the longest unused first; headers are read, arrays are not."""
        return [described(entry) for entry in self._files()]

    def problem(self, entry: CacheEntry) -> str:
        """Why a file is not to be trusted, "" for a sound one; reads it whole."""
        try:
            if entry.kind == "partial":
                raise Damaged("a write was cut short")
            if entry.kind == "inputs":
                if inputs.stored_digest(entry.path) != entry.path.stem:
                    raise Damaged("its content does not match its name")
            else:
                read_entry(entry.path, signing_key=self._key)
        except FileNotFoundError:
            return ""  # another process replaced or removed it
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        except Damaged as problem:
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
                    f"{self.directory} is not used, since {found}: take that right "
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
        return self.directory / "references" / f"{name_of(key_text(key))}.safetensors"

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


def _listed(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        yield from (path for path in folder.iterdir() if _ENTRY.fullmatch(path.name))


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split())


def _warn(text: str) -> None:
    warnings.warn(text, ReferenceCacheWarning, stacklevel=3)
