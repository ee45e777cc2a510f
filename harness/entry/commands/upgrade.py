"""Commands of `python -m harness` around an upgrade: upgrade, compare, precheck."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.entry.arguments import add_verify, verify
from harness.system.shown import document

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

    _add_upgrade(commands)

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
    _add_format(precheck, "json")
    return {"compare": _compare, "upgrade": _upgrade, "precheck": _precheck}


def _add_upgrade(commands: Any) -> None:
    upgrade = commands.add_parser(
        "upgrade",
        help="one answer from all that two runs' folders hold: cases, operators by bits, "
        "fingerprint, support, precheck",
    )
    add = upgrade.add_argument
    add("old", type=Path, metavar="OLD", help="folder of the run before")
    add("new", type=Path, metavar="NEW")
    add("--catalogue", type=Path, metavar="FILE", help="of the calls (default: the one shipped for "
        "this timm, or what `operators run` left beside its results)")  # fmt: skip
    add("--expected", type=Path, metavar="DIR", help="rows of calls that are known to fail")
    add("--update-expected", action="store_true", help="write these rows for all that fail now, "
        "and take out those of calls that pass")  # fmt: skip
    add("--expected-reason", default="", metavar="TEXT")
    add("--expected-link", default="", metavar="ADDRESS")
    add("--output", type=Path, metavar="DIR", help="for upgrade.html, .json, .csv, .xml (JUnit) "
        "and .txt (default: NEW)")  # fmt: skip
    add("--format", choices=("text", "json"), default="text")


def _add_format(parser: argparse.ArgumentParser, *more: str) -> None:
    parser.add_argument("--format", choices=("text", "markdown", *more), default="text")


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


def _upgrade(given: argparse.Namespace) -> int:
    from harness.report import upgrade as report
    from harness.system.status import UsageProblem
    from harness.upgrade import decision, folder, operators
    from harness.upgrade.expected import Update

    if (given.update_expected or given.expected_reason or given.expected_link) and not (
        given.expected and given.update_expected
    ):
        raise UsageProblem(
            "--update-expected needs --expected DIR, and --expected-reason and --expected-link "
            "belong to both."
        )
    update = Update(given.expected_reason, given.expected_link) if given.update_expected else None
    rows = operators.Rows(given.expected, update) if given.expected else None
    found = decision.decide(folder.read(given.old), folder.read(given.new), rows, given.catalogue)
    written = report.write(found, given.output or given.new)
    print(report.as_json(found) if given.format == "json" else report.as_text(found))
    print(f"{written[0]}", file=sys.stderr)
    return found.code


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
        if given.format == "json":
            raise UsageProblem("--format json is for versions side by side, not for --bisect.")
        old, new = given.bisect
        first = bisect.bisect(old, new, architectures, work, say)
        print(report.bisection(first))
        return first.code
    found = [check.check(v, architectures, work, say) for v in dict.fromkeys(given.torch_npu)]
    if given.format == "json":
        print(document([dataclasses.asdict(item) for item in found]))
        return check.exit_code(found)
    shown = markdown if given.format == "markdown" else text
    parts = [*map(shown.render_table, report.tables(found)), report.changes(found)]
    print("\n\n".join([*filter(None, parts), report.line(found)]))
    return check.exit_code(found)
