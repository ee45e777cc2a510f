"""`python -m harness prescribe`: which modules have to stay in float32 to reach a target."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.entry.arguments import add_allow_pickle
from harness.system import quantities, shown
from harness.system.files import CASES
from harness.system.status import ExitCode, UsageProblem

Command = Callable[[argparse.Namespace], int]


def add(commands: Any) -> Mapping[str, Command]:
    """Add the command's parser; returns what it runs."""
    parser = commands.add_parser(
        "prescribe",
        help="find the fewest modules of a float16, bfloat16 or HF32 model that must stay in "
        "float32",
    )
    add = parser.add_argument
    add("--model", required=True, metavar="NAME|DIR", help="architecture, sample or directory")
    add("--target", required=True, metavar="EXPR", help="conditions that are to hold, as of "
        "--compare-fail: 'error_rate<1, top1>=100', 'budget_ratio<0.5'")  # fmt: skip
    add("--dtype", choices=("float16", "bfloat16", "float32"), required=True)
    add("--numerics", choices=("strict", "default"), default="strict",
        help="of the device; default allows HF32, which a plan of float32 switches off in its "
        "modules")  # fmt: skip
    add("--device", default="auto", help="npu, npu-emulated, cpu or cuda (default: auto)")
    add("--emulated-kernels", default=None, metavar="NAME", help="kernels of the emulated NPU")
    add("--images", metavar="PATH", help="your own (default: photos for a model directory)")
    add("--batch-size", type=quantities.positive, metavar="N")
    add("--seed", type=quantities.natural, metavar="N", help="of random weights and images")
    add("--output", type=Path, default=Path("plan.json"), metavar="FILE",
        help="the plan (default: %(default)s)")  # fmt: skip
    add("--json", action="store_true", help="print one JSON document instead of a table")
    add_allow_pickle(add)
    return {"prescribe": _prescribe}


def _prescribe(given: argparse.Namespace) -> int:
    from harness.cases import precision_plans
    from harness.devices import emulated_kernels
    from harness.devices.choice import choose
    from harness.execution.settings import RunSettings
    from harness.execution.sides import Sides
    from harness.prescription import plan_of, prescribe, targets
    from harness.report import text
    from harness.report.tables import prescription as report
    from harness.runs import memory
    from harness.system.files import check_writable

    target = targets.parse(given.target)
    case = _case(given)
    try:
        check_writable(given.output)
    except OSError as error:
        raise UsageProblem(
            f"Cannot write the plan to {given.output} ({error.strerror}): give --output FILE."
        ) from error
    spec = choose(given.device).spec
    kernels = emulated_kernels.check_for(given.emulated_kernels, spec)
    sides = Sides(RunSettings(spec, emulated_kernels=kernels))
    try:
        memory.check(case, sides)
        found = prescribe.prescribe(
            sides, case, target, lambda said: print(f"  {said}", file=sys.stderr, flush=True)
        )
    finally:
        sides.close()
    plan = plan_of.plan_of(found)
    if plan is not None:
        precision_plans.write(plan, given.output)
    if given.json:
        print(shown.document(dataclasses.asdict(found) | {"met": found.met}))
    else:
        table = text.render_table(report.tries(found))
        said = [shown.line(line) for line in report.lines(found, given.output)]
        print("\n\n".join([table, "\n".join(said)]))
    return ExitCode.OK if found.met else ExitCode.FAILED


def _case(given: argparse.Namespace) -> Any:
    """The case to prescribe for: photos where the model has them, without a plan."""
    from harness.cases import case_files

    selection = case_files.Selection(
        models=(given.model,), dtype=given.dtype, numerics=given.numerics,
        batch_size=given.batch_size, seed=given.seed, images=given.images,
        allow_pickle=given.allow_pickle,
    )  # fmt: skip
    found = case_files.select(case_files.read(CASES / "default.toml"), selection)
    if len({case.model for case in found}) > 1:
        raise UsageProblem(f"--model {given.model} names several models: a plan is for one.")
    return next((case for case in found if case.inputs.kind == "photos"), found[0])
