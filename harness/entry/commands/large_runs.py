"""Commands of `python -m harness` for large runs: merge, architectures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.entry.arguments import add_verify, verify
from harness.system import shown, signing
from harness.system.status import ExitCode

Command = Callable[[argparse.Namespace], int]


def add(commands: Any) -> Mapping[str, Command]:
    """Add the commands' parsers; returns what each of them runs."""
    merge = commands.add_parser("merge", help="join the records of shards, or of parts of a run")
    merge.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="results file, or a folder"
    )
    merge.add_argument("--output", type=Path, required=True, metavar="DIR")
    merge.add_argument(
        "--allow-differences",
        action="store_true",
        help="accept parts that differ in versions, settings or devices",
    )
    merge.add_argument("--format", choices=("text", "markdown"), default="text")
    merge.add_argument("--sign", type=Path, metavar="KEY", help="sign the joined records")
    add_verify(merge)

    commands.add_parser(
        "architectures", help="for maintainers: measure every architecture of timm, store the table"
    )
    return {"merge": _merge, "architectures": _architectures}


def _merge(given: argparse.Namespace) -> int:
    from harness.entry.commands import merge_text as report
    from harness.records import signed
    from harness.report import markdown, text
    from harness.runs import merge

    verify(given.verify, *given.runs)
    key = signing.read_key(given.sign) if given.sign is not None else None
    merged = merge.merge(given.runs, given.output, allow_differences=given.allow_differences)
    cases, missing = merged.run.cases, merged.run.unfinished
    if given.format == "markdown":
        print(markdown.render_run(cases, missing))
        render_table = markdown.render_table
    else:
        print(text.render_run(cases, missing, folder=given.output.resolve()))
        render_table = text.render_table
    for line in report.lines(merged):
        print(shown.line(line))
    if table := report.differences(merged):
        print(f"\n{render_table(table)}")
    print(f"Records: {given.output / 'results.jsonl'}")
    if key is not None:
        print(f"Signature: {signed.sign(given.output / 'results.jsonl', key)}")
    return merged.code


def _architectures(given: argparse.Namespace) -> int:
    from harness.cases import architectures

    count = architectures.make_table(lambda text: print(text, file=sys.stderr, flush=True))
    print(f"{count} architectures in {architectures.TABLE}")
    return ExitCode.OK
