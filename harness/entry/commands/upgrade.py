"""Commands of `python -m harness` around an upgrade: compare, precheck."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.entry.arguments import add_verify, verify

Command = Callable[[argparse.Namespace], int]


def add(commands: Any) -> Mapping[str, Command]:
    """Add the commands' parsers; returns what each of them runs."""
    compare = commands.add_parser(
        "compare", help="compare the records of two runs: environment, cases, speed"
    )
    compare.add_argument("old", type=Path, metavar="OLD", help="results file or its folder")
    compare.add_argument("new", type=Path, metavar="NEW")
    compare.add_argument(
        "--fail-on",
        default="",
        metavar="EXPR",
        help='what fails the comparison, as in "budget_ratio>1.5x, speed<0.9x" (default: an error '
        "that grew beyond rounding; another status always does)",
    )
    _add_format(compare)
    add_verify(compare)

    precheck = commands.add_parser("precheck", help="try versions of torch_npu on the emulator")
    precheck.add_argument(
        "--torch-npu",
        action="append",
        default=[],
        metavar="VERSION",
        help='a version, or "installed" for this environment (repeatable)',
    )
    precheck.add_argument(
        "--model",
        action="append",
        metavar="ARCHITECTURE",
        help="timm architectures to run (default: few that execute every operator surveyed)",
    )
    precheck.add_argument(
        "--bisect",
        nargs=2,
        metavar=("OLD", "NEW"),
        help="find the first version after OLD, up to NEW, with which the models fail",
    )
    precheck.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        help="where wheels and venvs are kept (default: in the cache)",
    )
    _add_format(precheck)
    return {"compare": _compare, "precheck": _precheck}


def _add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("text", "markdown"), default="text")


def _compare(given: argparse.Namespace) -> int:
    from harness.records import results_file
    from harness.report import markdown, text
    from harness.upgrade import compare, conditions

    terms = conditions.parse(given.fail_on) if given.fail_on else ()
    verify(given.verify, given.old, given.new)
    old, new = (results_file.read_run(path) for path in (given.old, given.new))
    comparison = compare.compare(old, new, terms, ended=new.end is not None)
    shown = markdown if given.format == "markdown" else text
    print(shown.render_comparison(comparison))
    return comparison.code


def _precheck(given: argparse.Namespace) -> int:
    from harness.report import markdown, text
    from harness.report.tables import precheck as report
    from harness.system import files
    from harness.system.status import UsageProblem
    from harness.upgrade.precheck import bisect, check, stacks

    if bool(given.bisect) == bool(given.torch_npu):
        raise UsageProblem("Give precheck either --torch-npu VERSION (repeatable) or --bisect.")
    wanted = [v for v in dict.fromkeys(given.torch_npu) if v != check.INSTALLED]
    for version in (*wanted, *(given.bisect or ())):
        stacks.version(version)
    architectures = given.model or check.covering_architectures()
    work = (given.work or files.default_cache_dir() / "precheck").resolve()

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    if given.bisect:
        old, new = given.bisect
        first = bisect.bisect(old, new, architectures, work, say)
        print(report.bisection(first))
        return first.code
    found = [check.check(v, architectures, work, say) for v in dict.fromkeys(given.torch_npu)]
    shown = markdown if given.format == "markdown" else text
    parts = [*map(shown.render_table, report.tables(found)), report.changes(found)]
    print("\n\n".join([*filter(None, parts), report.line(found)]))
    return check.exit_code(found)
