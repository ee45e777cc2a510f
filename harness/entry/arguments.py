"""Command lines: parsed, guarded, and what every run of pytest is given."""

from __future__ import annotations

import argparse
import io
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.system import signing
from harness.system.files import CASES, INSTALLED_CASES, ROOT
from harness.system.status import (
    CaseProblem,
    ExitCode,
    UsageProblem,
    host_trouble,
    own_fault,
)


def run_arguments() -> list[str]:
    """What `python -m harness run` gives pytest before the user's own options."""
    return [
        # The ini file is named: pytest would look for it beside any path among the options.
        *_whose(),
        str(CASES),
        # Where it is installed, hypothesis would import itself for the summary, for seconds.
        *("-p", "no:hypothesispytest"),
    ]


def _whose() -> list[str]:
    """The ini file and the root of a run: the checkout's, or where the wheel's user is."""
    if CASES != INSTALLED_CASES:
        return ["-c", str(ROOT / "pytest.ini")]
    ini = CASES.parent / "run.ini"
    return ["-c", str(ini), "--rootdir", str(Path.cwd()), "-p", "npu_accuracy"]


def add_allow_pickle(add: Callable[..., Any]) -> None:
    """Add --allow-pickle by `add`, which is argparse's or pytest's own method."""
    add(
        "--allow-pickle",
        action="store_true",
        help="also read weights that are there as pickle only (pytorch_model.bin, .pth, .pth.tar), "
        "with weights_only=True",
    )


def guarded(command: Callable[[], int]) -> int:
    """Run a command; problems become one line on stderr and the exit code that design gives them.

    Bad input (UsageProblem) is 4; a model that does not load or run (CaseProblem) is 1; what the
    host lacks, and a bug of ours, are 10.  Never Python's own 1, which is that of a failed case.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that has no ideograms gets escapes
            stream.reconfigure(errors="backslashreplace")
    try:
        return command()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except UsageProblem as problem:
        print(f"error: {problem}", file=sys.stderr)
        return ExitCode.USAGE
    except CaseProblem as problem:
        print(f"error: {problem.status.value}: {problem.reason}", file=sys.stderr)
        return ExitCode.FAILED
    except BrokenPipeError:  # whoever read the output had enough
        sys.stdout = open(os.devnull, "w")
        return ExitCode.OK
    except (OSError, MemoryError) as error:
        print(f"error: {host_trouble(error)}", file=sys.stderr)
        return ExitCode.INFRASTRUCTURE
    except Exception as error:
        traceback.print_exc()
        print(f"error: {own_fault(error)}", file=sys.stderr)
        return ExitCode.INFRASTRUCTURE


def parsed(parse: Callable[[], argparse.Namespace]) -> argparse.Namespace | int:
    """Parse a command line; where argparse ends the program, return the exit code instead.

    argparse ends with 2 on bad usage; the harness' code for that is 4.
    """
    try:
        return parse()
    except SystemExit as stop:
        return int(ExitCode.USAGE) if stop.code else int(ExitCode.OK)


def add_verify(parser: argparse.ArgumentParser) -> None:
    """Add --verify, which `verify` reads."""
    parser.add_argument("--verify", type=Path, metavar="KEY", help="refuse records that were not "
        "signed with this key file (--sign of the run; docs/security.md)")  # fmt: skip


def verify(key: Path | None, *runs: Path) -> None:
    """Raise UsageProblem unless each run has the signature of a key; None asks for nothing."""
    if key is not None:
        from harness.records import signed

        secret = signing.read_key(key)
        for run in runs:
            signed.verify(run, secret)
