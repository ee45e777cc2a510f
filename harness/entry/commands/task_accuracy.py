"""Commands of `python -m harness` about labelled images: task-accuracy, import-validate."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cases.case import DTYPES, NUMERICS
from harness.entry.arguments import add_allow_pickle
from harness.system import quantities, shown
from harness.system.status import CaseProblem, ExitCode, UsageProblem

if TYPE_CHECKING:
    from harness.records.task_accuracy_result import Result

Command = Callable[[argparse.Namespace], int]
_RESULTS = Path("reports/task-accuracy")


def add(commands: Any) -> Mapping[str, Command]:
    """Add the commands' parsers; returns what each of them runs."""
    task = commands.add_parser(
        "task-accuracy", help="Top-1 and Top-5 on labelled images, on the CPU and on a device"
    )
    actions = task.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_run(actions)
    merge = actions.add_parser("merge", help="join the results of shards, and judge the whole")
    merge.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="results file or folder")
    merge.add_argument("--results", type=Path, required=True, metavar="DIR")
    merge.add_argument("--format", choices=("text", "json"), default="text")

    published = commands.add_parser(
        "import-validate", help="set what timm's validate.py wrote beside a labelled run"
    )
    add = published.add_argument
    add("published", type=Path, metavar="RESULTS.csv", help="of validate.py's --results-file")
    add("--results", type=Path, default=_RESULTS, metavar="DIR", help="of task-accuracy (default: "
        "%(default)s)")  # fmt: skip
    add("--row", metavar="NAME", help="the model's name there (default: its architecture)")
    add("--format", choices=("text", "json"), default="text")
    return {
        "task-accuracy": lambda given: {"run": _run, "merge": _merge}[given.action](given),
        "import-validate": _import_validate,
    }


def _add_run(actions: Any) -> None:
    run = actions.add_parser("run", help="classify labelled images on both sides, and judge")
    add = run.add_argument
    add("--model", type=Path, required=True, metavar="DIR", help="timm model directory")
    add("--dataset", type=Path, required=True, metavar="DIR|CSV", help="a folder with a folder of "
        "images for each class, or a CSV file with the columns path,label")  # fmt: skip
    add("--device", default="auto")
    add("--dtype", choices=DTYPES, default="float32", help="of the device; the CPU is float32")
    add("--numerics", choices=NUMERICS, default="default")
    add("--batch-size", type=quantities.positive, default=8, metavar="N")
    add("--results", type=Path, default=_RESULTS, metavar="DIR")
    add("--resume", action="store_true", help="keep what the results already hold")
    add("--shard", metavar="I/N", help="one part of N of the images, for `task-accuracy merge`")
    add("--case-timeout", type=quantities.seconds, default=600.0, metavar="S", help="longest that "
        "a side may take for a part of the images")  # fmt: skip
    add("--emulated-kernels", metavar="NAME")
    add("--fault-plan", type=Path, metavar="FILE")
    add("--format", choices=("text", "json"), default="text")
    add_allow_pickle(add)


def _run(given: argparse.Namespace) -> int:
    from harness.cases.models import directory
    from harness.cases.models.model_files import ModelFiles
    from harness.devices import emulated_kernels, fault_plan
    from harness.devices.choice import choose
    from harness.runs import task_accuracy as runs

    directory.check_there(given.model)
    spec = choose(given.device).spec
    plan = runs.Plan(
        model=ModelFiles(given.model, allow_pickle=given.allow_pickle),
        dataset=given.dataset,
        device=spec,
        dtype=given.dtype,
        numerics=given.numerics,
        batch_size=given.batch_size,
        shard=_shard(given.shard),
        timeout=given.case_timeout,
        kernels=emulated_kernels.check_for(given.emulated_kernels, spec),
        fault_plan=fault_plan.read_for(given.fault_plan, spec) if given.fault_plan else None,
    )
    try:
        result = runs.run(plan, given.results, _say, resume=given.resume)
    except CaseProblem as problem:
        _say(f"error: {problem.status.value}: {problem.reason}{spec.caveat}")
        if not problem.status.is_error:
            return ExitCode.FAILED
        _say("What was answered before is kept: --resume goes on with it.")
        return ExitCode.INFRASTRUCTURE
    return _shown(result, given)


def _merge(given: argparse.Namespace) -> int:
    from harness.runs import task_accuracy as runs

    return _shown(runs.merge(given.runs, given.results), given)


def _shown(result: Result, given: argparse.Namespace) -> int:
    """Write the views of the records beside them, and print one."""
    from harness.records import task_accuracy as records
    from harness.report import task_accuracy as report
    from harness.report.html import task_accuracy as page

    folder, end = given.results, records.read_end(given.results)
    document = shown.document(report.document(result, end))
    try:
        report.write_csv(result, folder, folder / "task-accuracy.csv")
        page.write(result, folder / "task-accuracy.html", end)
        (folder / "task-accuracy.json").write_text(document + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageProblem(
            f"Cannot write reports to {folder} ({error.strerror}): the records are kept; make room "
            "and give --resume."
        ) from error
    print(document if given.format == "json" else report.text(result, end))
    _say(f"{folder / 'task-accuracy.html'} shows it, with the images that flip.")
    return result.code


def _import_validate(given: argparse.Namespace) -> int:
    from harness.records import task_accuracy_result, timm_results
    from harness.report import published_accuracy as report
    from harness.report import text

    rows = timm_results.read(given.published)
    result = task_accuracy_result.read(given.results)
    if not result.counts.images:
        raise UsageProblem(f"{given.results} holds no image yet: finish that run (--resume).")
    row = timm_results.choose(rows, given.row, result.run.architecture)
    if given.format == "json":
        print(shown.document(report.document(row, result)))
    else:
        said = map(shown.line, report.lines(row, result))
        print("\n\n".join([text.render_table(report.table(row, result)), *said]))
    return ExitCode.OK


def _shard(text: str | None) -> Any:
    from harness.runs import shards

    try:
        return shards.parse(text) if text is not None else None
    except argparse.ArgumentTypeError as error:
        raise UsageProblem(f"--shard: {error}.") from error


def _say(text: str) -> None:
    print(shown.line(text), file=sys.stderr, flush=True)
