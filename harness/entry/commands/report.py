"""Commands of `python -m harness` about records and about this machine: report, schema, doctor."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.entry.arguments import add_verify, verify
from harness.system import files, shown
from harness.system.status import CaseProblem, ExitCode, UsageProblem

if TYPE_CHECKING:
    from harness.report.port.content import Port
    from harness.report.port.sample import Sample

_FULL = 12  # of more cases, those that passed have a line each

Command = Callable[[argparse.Namespace], int]


def add(commands: Any) -> Mapping[str, Command]:
    """Add the commands' parsers; returns what each of them runs."""
    report = commands.add_parser(
        "report", help="print the tables of a results file, or write what a port publishes"
    )
    add = report.add_argument
    add("results", type=Path, nargs="?", default=Path("reports/results.jsonl"), metavar="RUN",
        help="results file or its folder (default: %(default)s)")  # fmt: skip
    add("--format", choices=("text", "markdown", "csv", "html"), help="how to print them (default: "
        "text); csv: one row a case; html: the page of a run, into a file")  # fmt: skip
    add("--lang", action="append", choices=("zh", "en"), help="write the port report of one model "
        "in this language (repeatable); with --format html: the page's language")  # fmt: skip
    add("--model", metavar="NAME|DIR", help="with --lang: the model, where the run holds several")
    add("--output", type=Path, metavar="DIR|FILE", help="with --lang: where the port report goes "
        "(default: port/MODEL beside the records); with --format html: the page (default: "
        "accuracy.html beside the records)")  # fmt: skip
    add_verify(report)

    schema = commands.add_parser("schema", help="write the JSON Schema of the records")
    schema.add_argument("--output", type=Path, metavar="FILE", help="- for standard output "
        "(default: docs/records.schema.json)")  # fmt: skip

    doctor = commands.add_parser(
        "doctor", help="say whether everything is here that a run needs, and the remedy if not"
    )
    doctor.add_argument(
        "--device", default="auto", help="the device that is to run (default: auto)"
    )
    doctor.add_argument("--json", action="store_true", help="print one JSON document")
    return {"report": _report, "schema": _schema, "doctor": _doctor}


def _report(given: argparse.Namespace) -> int:
    verify(given.verify, given.results)
    from harness.records import results_file
    from harness.report import markdown, spreadsheet, text
    from harness.report.tables import trend
    from harness.runs.session import final_exit_code
    from harness.upgrade import history

    if given.lang and given.format != "html":
        return _port(given)
    if given.model is not None or (given.output is not None and given.format != "html"):
        raise UsageProblem("--model and --output belong to the port report: add --lang zh or en.")
    run = results_file.read_run(given.results)
    if given.format == "csv":
        print(spreadsheet.render(run), end="")
        return final_exit_code(run)
    folder = results_file.folder(given.results)
    if given.format == "html":
        from harness.entry.commands import replay

        page = given.output or folder / "accuracy.html"
        languages = given.lang or ["en"]
        if len(languages) > 1:
            raise UsageProblem("A page has one language: give --lang once.")
        replay.write_page(results_file.results_file(given.results), page, languages[0])
        print(page)
        return final_exit_code(run)
    renderer = markdown if given.format == "markdown" else text
    if renderer is markdown:
        print(markdown.render_run(run.cases, run.unfinished))
    else:
        columns = max(text.NARROWEST, shutil.get_terminal_size().columns)
        few = len(run.cases) <= _FULL
        print(
            text.render_run(
                run.cases, run.unfinished, full=few, folder=folder.resolve(), columns=columns
            )
        )
    if table := trend.trend(history.of_run(folder / "history", run)):
        print(f"\n{renderer.render_table(table)}")
    if run.end is None:
        print("\nThe run was cut short: its last line is missing, so it is incomplete.")
    return final_exit_code(run)


def _port(given: argparse.Namespace) -> int:
    from harness.records import consistency, results_file
    from harness.report.port import content, document
    from harness.runs.session import final_exit_code

    if given.format is not None:
        raise UsageProblem("--lang goes with --format html, or alone: a port report is Markdown.")
    found = content.choose(results_file.read_run(given.results), given.model)
    folder = results_file.folder(given.results)
    output = given.output or folder / "port" / found.directory_name
    document.claim(output)
    script = document.write_script(found, output)
    found = dataclasses.replace(found, sample=_sample(found, script, given.model))
    languages = list(dict.fromkeys(given.lang))
    for language in languages:
        print(document.write(found, language, output, folder))
    # Hubs show the file of this name.
    shutil.copyfile(output / f"README_{languages[0]}.md", output / "README.md")
    print(document.line(found))
    if line := consistency.other_rules(found.cases):
        print(shown.line(line))
    return final_exit_code(found.of_model())


def _sample(found: Port, script: Path, wanted: str | None) -> Sample:
    """Run the port's own inference.py with the model of the records, where that is here.

    `wanted`: as `--model` names it.
    """
    from harness.cases.models.model_files import ModelFiles
    from harness.report.port import sample

    main, source = found.main, found.source
    if main is None or source is None or main.candidate is None:
        return sample.Sample(problem="sample.no_model")
    # A record may be a stranger's: which folder is read, and that no pickle is, it does not say.
    if source.kind == "directory":
        if wanted is None or not Path(wanted).is_dir():
            return sample.Sample(problem="sample.no_model")
        source = dataclasses.replace(source, ref=wanted)
    source = dataclasses.replace(source, allow_pickle=False)
    try:
        model = ModelFiles.of(source, files.default_cache_dir())
        changed = model.load().weights_sha256 != main.weights_sha256
    except (CaseProblem, OSError):
        return sample.Sample(problem="sample.no_model")
    if changed:
        return sample.Sample(problem="sample.other_weights")
    extra = [word for key in source.allow_keys for word in ("--allow-key", key)]
    return sample.run(script, model.directory, main.candidate.device.spec, extra)


def _schema(given: argparse.Namespace) -> int:
    from harness.records import schema

    if given.output == Path("-"):
        print(schema.text(), end="")
        return ExitCode.OK
    path = given.output or schema.DOCUMENT
    try:
        path.write_text(schema.text(), encoding="utf-8")
    except OSError as error:
        raise UsageProblem(
            f"Cannot write the schema to {path} ({error.strerror}): give --output FILE."
        ) from error
    print(path)
    return ExitCode.OK


def _doctor(given: argparse.Namespace) -> int:
    from harness.entry.doctor import examine
    from harness.entry.doctor import text as report

    found = examine.examine(given.device)
    if given.json:
        print(shown.document(examine.document(found)))
    else:
        print(report.render(found))
    return found.exit_code
