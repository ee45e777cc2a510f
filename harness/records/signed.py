"""Signatures of whole runs: a run that gates something was written by a holder of the key.

The signature stands beside the results, in results.jsonl.sig.  It covers every byte of them, and is
made when the run ends, so that a run that goes on, was cut short or was changed has none that fits.
"""

from __future__ import annotations

from pathlib import Path

from harness.records import results_file
from harness.system import files, foreign, signing
from harness.system.status import UsageProblem

_PURPOSE = "run"  # what such a signature is for
_SIGNATURE_BYTES = 256


def signature_file(results: Path) -> Path:
    """Where the signature of a results file stands."""
    return results.with_name(f"{results.name}.sig")


def sign(results: Path, key: bytes) -> Path:
    """Sign a results file; returns the signature's file.  Raises UsageProblem."""
    path = signature_file(results)
    try:
        text = signing.sign(key, _PURPOSE, files.sha256_file(results).encode())
        with files.replacing(path) as temporary:
            temporary.write_text(text + "\n", encoding="ascii")
    except OSError as error:
        raise UsageProblem(f"{path} cannot be written ({error.strerror}).") from error
    return path


def verify(run: Path, key: bytes) -> None:
    """Raise UsageProblem unless a results file, or the one in a folder, has the key's signature."""
    results = results_file.results_file(run)
    path = signature_file(results)
    try:
        signature = foreign.read_bytes(path, _SIGNATURE_BYTES).decode("ascii", "replace").strip()
        digest = files.sha256_file(results)
    except OSError as error:
        raise UsageProblem(
            f"{results} has no signature that can be read ({error.strerror}: {path.name}): run "
            "with --sign KEY where it is made."
        ) from error
    if not signing.holds(key, _PURPOSE, digest.encode(), signature):
        raise UsageProblem(
            f"{path} is not the signature of {results.name} with this key: the results were "
            "changed after the run, or another key signed them."
        )
