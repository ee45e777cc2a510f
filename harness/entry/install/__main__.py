"""`python -m harness.entry.install venv|bundle|wheel ...`, as the Makefile calls it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.entry.install import bundle, environment, pip, stack, wheel
from harness.system.status import ExitCode, UsageProblem


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; what cannot be is one sentence and exit code 4."""
    parser = argparse.ArgumentParser(prog="python -m harness.entry.install")
    commands = parser.add_subparsers(dest="command", required=True)
    venv = commands.add_parser("venv", help="make or renew the virtual environment of the harness")
    venv.add_argument("directory", type=Path)
    venv.add_argument("--wheels", default="", help="install from this bundle, without a network")
    venv.add_argument("--tests", action="store_true", help="also what tests and linters need")
    packed = commands.add_parser("bundle", help="fetch all wheels for a host without a network")
    packed.add_argument("directory", type=Path)
    packed.add_argument("--machine", default="", help="x86_64 or aarch64 (default: this one)")
    packed.add_argument("--python", default="", help="Python of that host, as in 3.11")
    built = commands.add_parser("wheel", help="build the package")
    built.add_argument("directory", type=Path)
    for command in (venv, packed):
        command.add_argument("--stack", default="", help="a torch_npu release, as in 2.8.0.post4; "
            "installed; or auto (default)")  # fmt: skip
    given = parser.parse_args(arguments)
    try:
        if given.command == "wheel":
            print(wheel.write(given.directory))
        elif given.command == "bundle":
            target = pip.Target.of(given.machine, given.python)
            bundle.write(given.directory, stack.choose(given.stack, target), target)
        else:
            wheels = Path(given.wheels) if given.wheels else None
            environment.renew(given.directory, given.stack, wheels, tests=given.tests)
    except UsageProblem as problem:
        print(f"error: {problem}", file=sys.stderr)
        return ExitCode.USAGE
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
