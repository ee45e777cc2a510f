"""Commands of `python -m harness operators`: a catalogue of calls, and their qualification."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.system import quantities
from harness.system.status import ExitCode, UsageProblem

Command = Callable[[argparse.Namespace], int]
_DTYPES = ("float32", "float16", "bfloat16")
_LEVEL_SECONDS = 600.0


def add(commands: Any) -> Mapping[str, Command]:
    """Add the command's parsers; returns what it runs."""
    operators = commands.add_parser(
        "operators", help="qualify the operator calls of all timm once, for every model"
    )
    actions = operators.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_catalogue(actions)
    _add_run(actions)
    _add_merge(actions)
    return {"operators": lambda given: _ACTIONS[given.action](given)}


def _add_catalogue(actions: Any) -> None:
    catalogue = actions.add_parser(
        "catalogue", help="list the distinct calls of models, on shapes alone, with their models"
    )
    add = catalogue.add_argument
    _add_choice(add)
    add("--all", action="store_true", help="every architecture of the installed timm")
    add("--dtype", choices=_DTYPES, default="float32")
    add("--device", default="auto", help="whose dispatcher decides which calls are one")
    add("--batch-size", type=quantities.positive, default=2, metavar="N")
    add("-n", "--processes", type=quantities.positive, default=os.cpu_count() or 1, metavar="N")
    add("--output", type=Path, required=True, metavar="FILE")


def _add_run(actions: Any) -> None:
    run = actions.add_parser("run", help="run and judge the calls of a catalogue on a device")
    add = run.add_argument
    _add_choice(add)
    add("--catalogue", type=Path, metavar="FILE", help="default: the one shipped for this timm; "
        "models that are named are traced where there is none")  # fmt: skip
    add("--dtype", choices=_DTYPES, default="float32")
    add("--numerics", choices=("strict", "default"), default="strict")
    add("--device", default="auto")
    add("--results", type=Path, default=Path("reports/operators"), metavar="DIR")
    add("--resume", action="store_true", help="keep what the results already hold")
    add("--changed-since", type=Path, metavar="RUN", help="results of another version on the same "
        "chip: only what comes out otherwise is judged")  # fmt: skip
    add("--shard", type=_shard, default=(1, 1), metavar="I/N")
    add(
        "-n",
        "--processes",
        type=quantities.positive,
        default=min(8, os.cpu_count() or 1),
        metavar="N",
        help="of the device, side by side (default: a processor each, at most 8)",
    )
    add("--variants", action="store_true", help="also in other layouts and batches")
    add("--largest", type=quantities.above_zero, default=1.0, metavar="GFLOP",
        help="calls beyond are cropped (default: %(default)s)")  # fmt: skip
    add("--call-timeout", type=quantities.seconds, default=120.0, metavar="S")
    add("--emulated-kernels", metavar="NAME")
    add("--fault-plan", type=Path, metavar="FILE")
    add("--call", metavar="ID", help="one call of the catalogue again, and nothing else")
    add("--inputs", type=Path, metavar="FILE", help="with --call: its tensor arguments, as "
        "safetensors in the order of their names")  # fmt: skip
    add("--scripts", type=Path, metavar="DIR", help="with --call: write a script and its tensors "
        "for what fails, which need no harness")  # fmt: skip
    add("--format", choices=("text", "json"), default="text")


def _add_merge(actions: Any) -> None:
    merge = actions.add_parser("merge", help="join the results of shards, and certify the whole")
    add = merge.add_argument
    add("runs", type=Path, nargs="+", metavar="RUN")
    _add_choice(add)
    add("--catalogue", type=Path, metavar="FILE")
    add("--results", type=Path, required=True, metavar="DIR")
    add("--format", choices=("text", "json"), default="text")


def _shard(text: str) -> tuple[int, int]:
    from harness.runs import shards

    found = shards.parse(text)
    return found.number, found.of


def _add_choice(add: Callable[..., Any]) -> None:
    add("--family", action="append", default=[], metavar="F", help="a module of timm, such as "
        "vision_transformer (repeatable)")  # fmt: skip
    add("--model", action="append", default=[], metavar="NAME|DIR", help="an architecture, or a "
        "model directory (repeatable)")  # fmt: skip


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _catalogue(given: argparse.Namespace) -> int:
    from harness.devices.choice import choose
    from harness.execution.worker import DeviceWorker
    from harness.qualification import building, catalogue

    names = _names(given)
    worker = DeviceWorker(choose(given.device).spec)
    try:
        level = worker.ask(building.AskLevel(), _LEVEL_SECONDS)
    finally:
        worker.stop()
    header = catalogue.Header.now(given.dtype, given.batch_size, level)
    part = given.output.with_name(given.output.name + ".part")
    found = building.build(header, names, part, _say, processes=given.processes)
    catalogue.write(found, given.output)
    part.unlink()
    print(
        f"{given.output}: {len(found.models)} models make {found.total} calls, "
        f"{len(found.signatures)} of them distinct ({given.output.stat().st_size} bytes)"
    )
    for name, problem in found.untraced.items():
        print(f"not traced: {name}: {problem}")
    return ExitCode.FAILED if found.untraced else ExitCode.OK


def _run(given: argparse.Namespace) -> int:
    from harness.devices import emulated_kernels, fault_plan
    from harness.devices.choice import choose
    from harness.execution.worker import DeviceWorker

    if given.call:
        _alone(given)
    chosen = choose(given.device)
    kernels = emulated_kernels.check_for(given.emulated_kernels, chosen.spec)
    worker = DeviceWorker(chosen.spec, kernels)
    if given.call:
        worker.start()  # the device is made ready while torch is imported here
    from harness.qualification import certificate, results, run

    plan = run.Plan(
        device=chosen.spec,
        dtype=given.dtype,
        numerics=given.numerics,
        shard=given.shard,
        since=results.read(given.changed_since) if given.changed_since else None,
        variants=given.variants,
        call_seconds=given.call_timeout,
        largest=given.largest * 1e9,
        kernels=kernels,
        fault_plan=fault_plan.read_for(given.fault_plan, chosen.spec) if given.fault_plan else None,
        processes=given.processes,
        fault_plan_file=str(given.fault_plan or ""),
    )
    if given.call:
        try:
            return _again(given, plan, worker)
        finally:
            worker.stop()
    calls = _calls(given, plan)
    found = run.run(calls, plan, given.results / results.FILE, _say, resume=given.resume)
    made = certificate.certify(calls, found, plan.since)
    certificate.write(made, given.results)
    print(certificate.as_json(made) if given.format == "json" else certificate.as_text(made))
    return run.exit_code(found)


def _alone(given: argparse.Namespace) -> None:
    """Raise UsageProblem for options that choose calls, beside one call by its id."""
    others = {"--model": given.model, "--family": given.family, "--resume": given.resume,
              "--changed-since": given.changed_since, "--shard": given.shard != (1, 1)}  # fmt: skip
    if beside := [name for name, value in others.items() if value]:
        raise UsageProblem(f"--call runs one call alone: leave out {', '.join(beside)}.")


def _again(given: argparse.Namespace, plan: Any, worker: Any) -> int:
    import json

    from harness.devices.spec import EMULATED_MEANS
    from harness.qualification import catalogue, run

    calls = catalogue.for_installed(given.catalogue, given.dtype)
    text = calls.signatures.get(given.call)
    if text is None:
        raise UsageProblem(
            f"The catalogue has no call {given.call!r}: take an id from operators.jsonl of the "
            "same timm and dtype, or give its --catalogue."
        )
    scripts = given.scripts.absolute() if given.scripts else None
    outcome = run.again(worker, given.call, text, plan, given.inputs, scripts)
    if given.format == "json":
        print(json.dumps(outcome.plain))
    else:
        models = sorted(name for name, made in calls.models.items() if given.call in made)
        named = ", ".join(models[:6]) + ", ..." * (len(models) > 6)
        print(
            f"{given.call}: {outcome.status.value}" + f": {outcome.reason}" * bool(outcome.reason)
        )
        print(f"  {text}" + f"\n  cropped: {outcome.cropped}" * bool(outcome.cropped))
        print(f"  in {len(models)} models: {named}")
        for name, item in outcome.sets.items():
            print(
                f"  {name}: {item.status.value}, ratio {item.ratio}, worst slice "
                f"{item.slice_ratio} {item.where}, bits {item.bits}"
            )
        if plan.device.emulated:
            print(f"  {EMULATED_MEANS}")
    if outcome.status.is_error:
        return ExitCode.INFRASTRUCTURE
    return ExitCode.OK if outcome.status.value in ("pass", "skip") else ExitCode.FAILED


def _merge(given: argparse.Namespace) -> int:
    from harness.qualification import catalogue, certificate, results, run

    parts = [(path, results.read(path)) for path in given.runs]
    whole = results.merge(parts)
    calls = catalogue.for_installed(given.catalogue, whole.run.dtype)
    calls = catalogue.choose(calls, given.family, given.model)
    code = run.exit_code(whole)
    made = certificate.certify(calls, whole)
    if any(model.missing for model in made.models):
        code = ExitCode.INCOMPLETE if code in (ExitCode.OK, ExitCode.INFRASTRUCTURE) else code
    results.write(whole, given.results / results.FILE, code)
    certificate.write(made, given.results)
    print(certificate.as_json(made) if given.format == "json" else certificate.as_text(made))
    return code


def _calls(given: argparse.Namespace, plan: Any) -> Any:
    """The catalogue's part that was asked for; models that no catalogue holds are traced."""
    from harness.execution.worker import DeviceWorker
    from harness.qualification import building, catalogue

    path = given.catalogue
    named = given.model or given.family
    shipped = catalogue.default_path(given.dtype).exists()
    if path is not None or (shipped and not any(os.sep in name for name in given.model)):
        return catalogue.choose(
            catalogue.for_installed(path, given.dtype), given.family, given.model
        )
    if not named:
        return catalogue.for_installed(None, given.dtype)  # says that there is none
    given.all = False
    names = _names(given)
    worker = DeviceWorker(plan.device)
    try:
        level = worker.ask(building.AskLevel(), _LEVEL_SECONDS)
    finally:
        worker.stop()
    header = catalogue.Header.now(given.dtype, 2, level)
    part = given.results / "calls.part"
    found = building.build(header, names, part, _say)
    part.unlink()
    for name, problem in found.untraced.items():
        raise UsageProblem(f"{name} could not be traced: {problem}.")
    catalogue.write(found, given.results / catalogue.TRACED)
    return found


def _names(given: argparse.Namespace) -> list[str]:
    """The models that were asked for.  Raises UsageProblem for an unknown one, or none."""
    from harness.cases import architectures

    known = architectures.families()
    names = list(known) if given.all else []
    for family in given.family:
        members = [name for name, of in known.items() if of == family]
        if not members:
            raise UsageProblem(
                f"timm has no family {family!r}: give one of its modules, such as "
                "vision_transformer, resnet or efficientnet."
            )
        names += members
    for name in given.model:
        if os.sep in name or Path(name).is_dir():
            names.append(str(Path(name).absolute()))
        elif architectures.is_known(name):
            names.append(name)
        else:
            raise UsageProblem(
                f"timm has no architecture {name!r}, and there is no such directory: see "
                "timm.list_models()."
            )
    if not names:
        raise UsageProblem("Give the catalogue models: --all, --family F or --model NAME|DIR.")
    return list(dict.fromkeys(names))


_ACTIONS: Mapping[str, Command] = {"catalogue": _catalogue, "run": _run, "merge": _merge}
