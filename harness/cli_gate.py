"""Commands of `python -m harness` around an upgrade: report, compare."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Command = Callable[[argparse.Namespace], int]


def add(commands: Any) -> Mapping[str, Command]:
    """Add the commands' parsers; returns what each of them runs."""
    report = commands.add_parser("report", help="print the tables of a results file")
    report.add_argument("results", type=Path, nargs="?", default=Path("reports/results.jsonl"))
    _add_format(report)

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
    return {"report": _report, "compare": _compare}


def _add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("text", "markdown"), default="text")


def _report(given: argparse.Namespace) -> int:
    from harness import history, records
    from harness.report import markdown, text, trend
    from harness.session import final_exit_code

    run = records.read(given.results)
    shown = markdown if given.format == "markdown" else text
    print(shown.render_run(run.cases, run.missing))
    if table := trend.trend(history.of_run(given.results.parent / "history", run)):
        print(f"\n{shown.render_table(table)}")
    if run.end is None:
        print("\nThe run was cut short: its last line is missing, so it is incomplete.")
    return final_exit_code(run)


def _compare(given: argparse.Namespace) -> int:
    from harness import compare, expressions
    from harness.report import markdown, text

    terms = expressions.parse(given.fail_on) if given.fail_on else ()
    old, new = (compare.read(path) for path in (given.old, given.new))
    comparison = compare.compare(old, new, terms, ended=new.end is not None)
    shown = markdown if given.format == "markdown" else text
    print(shown.render_comparison(comparison))
    return comparison.code
