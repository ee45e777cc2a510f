"""Commands of `python -m harness`; each is a thin shell over a function of the package."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.entry.arguments import guarded, parsed, run_arguments
from harness.entry.commands import (
    large_runs,
    operators,
    prescribe,
    qualify,
    report,
    support,
    task_accuracy,
    upgrade,
)
from harness.system import files, private, quantities
from harness.system.status import ExitCode, UsageProblem


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code (design: 0, 1, 4, 10, 11, 12)."""
    installed = Path(sys.argv[0]).name == "npu-accuracy"
    parser = argparse.ArgumentParser(prog="npu-accuracy" if installed else "python -m harness")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    sample = commands.add_parser("sample-model", help="prepare the model with real weights")
    sample.add_argument("--output", type=Path, metavar="DIR", help="default: in the cache")

    device = commands.add_parser("device", help="say which device a run takes, and why")
    device.add_argument("--device", default="auto")

    run_cases = commands.add_parser(
        "run", help="run the accuracy cases; every further option is pytest's", add_help=False
    )
    run_cases.add_argument("options", nargs=argparse.REMAINDER)

    sweep = commands.add_parser(
        "sweep", help="the same on the devices of a Ray cluster", add_help=False
    )
    sweep.add_argument("--ray", metavar="HOST:PORT")
    sweep.add_argument("options", nargs=argparse.REMAINDER)

    emulate = commands.add_parser(
        "emulate", help="run a Python script on the emulated NPU, for example a reproducer"
    )
    emulate.add_argument("--fault-plan", type=Path, metavar="FILE", help="faults to plant (JSON)")
    emulate.add_argument(
        "--emulated-kernels", metavar="NAME", help="default: those that a reproducer names"
    )
    emulate.add_argument("script", type=Path)
    emulate.add_argument("arguments", nargs=argparse.REMAINDER)

    further = {
        name: command
        for module in (
            upgrade,
            report,
            large_runs,
            support,
            operators,
            qualify,
            task_accuracy,
            prescribe,
        )
        for name, command in module.add(commands).items()
    }
    _add_study(commands)
    _add_cache(commands)

    def parse() -> argparse.Namespace:
        given, unknown = parser.parse_known_args(arguments)
        if given.command in ("run", "sweep"):
            given.options = unknown + given.options
        elif unknown:
            parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        return given

    given = parsed(parse)
    if isinstance(given, int):
        return given
    run = {
        "sample-model": _sample_model,
        "device": _device,
        "run": _run,
        "sweep": _sweep,
        "emulate": _emulate,
        "study": _study,
        "cache": _cache,
        **further,
    }[given.command]
    return guarded(lambda: run(given))


def _sample_model(given: argparse.Namespace) -> int:
    from harness.cases.models import sample

    if given.output is None:
        cache = files.default_cache_dir()
        private.require(cache, "The cache", "Set HARNESS_CACHE_DIR, or give --output DIR.")
    print(sample.prepare_sample(given.output or sample.default_sample_dir()))
    return ExitCode.OK


def _device(given: argparse.Namespace) -> int:
    from harness.devices.choice import choose

    print(choose(given.device))
    return ExitCode.OK


def _run(given: argparse.Namespace) -> int:
    import pytest

    try:
        return int(pytest.main([*run_arguments(), *given.options]))
    except (ValueError, argparse.ArgumentError) as error:
        # A plugin that comes after the harness; by pytest, or by argparse.
        if not re.search("option names .* already added|conflicting option", str(error)):
            raise
        raise UsageProblem(
            f"Another pytest plugin has an option of the same name as the harness ({error}): leave "
            "that plugin out with -p no:NAME; `pip list` shows those that are installed."
        ) from error


def _sweep(given: argparse.Namespace) -> int:
    if given.ray is not None:
        given.options = ["--ray", given.ray, *given.options]
    elif not {"-h", "--help"}.intersection(given.options):
        raise UsageProblem("sweep needs the cluster: give --ray HOST:PORT.")
    return _run(given)


def _emulate(given: argparse.Namespace) -> int:
    from harness.entry.commands import emulate

    return emulate.run_script(
        given.script, given.arguments, given.fault_plan, given.emulated_kernels
    )


def _add_study(commands: Any) -> None:
    study = commands.add_parser(
        "study",
        help="plant every fault of the catalogue and show what the verdict catches, or judge the "
        "honest kernels of other engines",
    )
    add = study.add_argument
    add("--device", default="npu-emulated", help="faults can be planted in npu-emulated only")
    add("--settings", default="A,B,C,D", help="A: plain random, B: real weights and noise, C: real "
        "weights and photos, D: discriminating random weights (default: all)")  # fmt: skip
    add("--engines", metavar="NAMES", help="plant nothing: judge onnxruntime,openvino on small "
        "--models, in --formats (default: strict), with --operator-share (default: 1)")  # fmt: skip
    add("--formats", help="default: strict,default,float16,bfloat16")
    add("--models", help="timm architectures for A and D (default: efficientnet_b0)")
    add("--seeds", type=quantities.natural, default=3, help="further seeds for the honest runs")
    add("--operator-share", type=quantities.share, default=None, metavar="S", help="part of the "
        "operators to compare one by one (default: as a run does)")  # fmt: skip
    add("--emulated-kernels", metavar="NAME", help="as of a run")
    add("--limit", type=quantities.natural, help="faults per setting and format (default: all; "
        "0: honest runs only)")  # fmt: skip
    add("--output", type=Path, default=Path("reports/study"), metavar="DIR")
    add("--read", type=Path, nargs="+", metavar="FILE", help="run nothing: join these study.json")


def _study(given: argparse.Namespace) -> int:
    from harness.detection import study, study_results
    from harness.devices import emulated_kernels
    from harness.devices.choice import choose
    from harness.execution.settings import RunSettings
    from harness.execution.sides import Sides
    from harness.report import study as report

    if given.engines:
        return _engines(given)
    plan = study.StudyPlan(
        settings=tuple(given.settings.split(",")),
        **_named(given, "formats", "models"),
        seeds=given.seeds,
        limit=given.limit,
    )
    if given.read:
        result = study_results.join(
            [study_results.load(path, study_results.Study) for path in given.read]
        )
    else:
        spec = choose(given.device).spec
        kernels = emulated_kernels.check_for(given.emulated_kernels, spec)
        sides = Sides(
            RunSettings(spec, operator_share=given.operator_share, emulated_kernels=kernels)
        )
        try:
            result = study.run(sides, plan, lambda text: print(text, file=sys.stderr, flush=True))
        finally:
            sides.close()
    _keep(given.output, "study", result, report.render(result))
    return ExitCode.FAILED if any(row.false_alarm for row in result.honest) else ExitCode.OK


def _engines(given: argparse.Namespace) -> int:
    from harness.detection import engine_study, study_results
    from harness.devices.spec import DeviceSpec
    from harness.execution.settings import RunSettings
    from harness.execution.sides import Sides
    from harness.report import engines as report

    if given.read:
        result = study_results.join_engines(
            [study_results.load(path, study_results.EngineStudy) for path in given.read]
        )
    else:
        share = 1.0 if given.operator_share is None else given.operator_share
        plan = engine_study.EnginePlan(**_named(given, "engines", "formats", "models"), share=share)
        sides = Sides(RunSettings(DeviceSpec("cpu")))
        try:
            result = engine_study.run(
                sides, plan, lambda text: print(text, file=sys.stderr, flush=True)
            )
        finally:
            sides.close()
    _keep(given.output, "engines", result, report.render(result))
    return ExitCode.FAILED if result.accused else ExitCode.OK


def _named(given: argparse.Namespace, *options: str) -> dict[str, tuple[str, ...]]:
    """Those options that were given, with the names in them."""
    found = {option: getattr(given, option) for option in options}
    return {option: tuple(names.split(",")) for option, names in found.items() if names}


def _keep(folder: Path, name: str, study: Any, text: str) -> None:
    from harness.detection import study_results

    folder.mkdir(parents=True, exist_ok=True)
    study_results.save(study, folder / f"{name}.json")
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)


def _add_cache(commands: Any) -> None:
    cache = commands.add_parser(
        "cache", help="list, verify or prune the references and inputs kept on disk"
    )
    add = cache.add_argument
    add("action", nargs="?", choices=("list", "verify", "prune"), default="list")
    add("--reference-cache", type=Path, metavar="DIR", help="default: the cache directory")
    add("--reference-cache-key", type=Path, metavar="FILE", help="the key that signs a shared "
        "cache (default: $HARNESS_CACHE_KEY)")  # fmt: skip
    add("--delete", action="store_true", help="verify: remove what is damaged")
    add("--max-size", type=quantities.size, metavar="SIZE", help="prune: keep this much, such as "
        "5GB (default: the limit of a run)")  # fmt: skip
    add("--older-than", type=quantities.days, metavar="DAYS", help="prune: remove what was not "
        "used for so long")  # fmt: skip


def _cache(given: argparse.Namespace) -> int:
    from harness.entry.commands import cache_text as report
    from harness.execution.reference import cache
    from harness.system import signing

    pruning = given.max_size is not None or given.older_than is not None
    if (given.delete and given.action != "verify") or (pruning and given.action != "prune"):
        raise UsageProblem(
            "--delete belongs to `cache verify`, --max-size and --older-than to `cache prune`."
        )
    directory = given.reference_cache or files.default_cache_dir()
    limit = cache.size_limit()
    kept = cache.ReferenceCache(directory, limit, signing.cache_key(given.reference_cache_key))
    try:
        if given.action == "verify":
            checked = [(entry, kept.problem(entry)) for entry in kept.entries()]
            damaged = [(entry, problem) for entry, problem in checked if problem]
            if given.delete:
                for entry, _ in damaged:
                    kept.remove(entry.path)
            trouble = kept.trouble()
            unsafe = trouble and not kept.signed
            if trouble:
                remedy = "; take that right away, or sign it with --reference-cache-key"
                print(f"{directory} is not this user's alone: {trouble}{remedy if unsafe else ''}.")
            named = {
                "--reference-cache": given.reference_cache,
                "--reference-cache-key": given.reference_cache_key,
            }
            asked = "".join(
                f" {name}={shlex.quote(str(value))}" for name, value in named.items() if value
            )
            print(report.render_check(len(checked), damaged, deleted=given.delete, asked=asked))
            return ExitCode.FAILED if damaged or unsafe else ExitCode.OK
        if given.action == "prune":
            by_age = given.max_size is None and given.older_than is not None
            size = sys.maxsize if by_age else limit if given.max_size is None else given.max_size
            removed = kept.prune(size, given.older_than)
            print(f"Removed {report.amount(removed)}; {report.amount(kept.entries())} are left.")
            return ExitCode.OK
        print(report.render_list(kept.entries(), directory, limit))
    except OSError as error:
        raise UsageProblem(
            f"{error.filename} cannot be read or removed ({error.strerror}): give another "
            "--reference-cache, or run as the user who owns it."
        ) from error
    return ExitCode.OK
