"""Which releases of torch_npu the emulated NPU carries: makes docs/releases.md.

    python -m benchmarks.releases [RELEASE ...] [--work DIR] [--keep] [--output FILE]

For maintainers.  One venv a torch (as plain pip gives it) with the wheels of torch_npu beside it;
in each the default cases against their expected rows, and ten planted faults with an honest run of
the same models before them.  A venv is removed before the next one, unless --keep.  What was
measured stays in DIR/releases.json, so that a later call adds to the table.  All of it is EMULATED.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import itertools
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import harness  # noqa: F401  (before torch)
from harness.devices.emulator.build import TRIED_TORCH_NPU
from harness.system.files import ROOT, default_cache_dir
from harness.upgrade.precheck import stacks

MARK = "RELEASES "
OUTPUT = ROOT / "docs" / "releases.md"
_RUN_SECONDS = 1800
# Of the catalogue behind docs/detection.md, by name and depth; the rest is planned below.
CONVOLUTIONAL, TRANSFORMER = "efficientnet_b0", "vit_tiny_patch16_224"
CHOSEN = (
    (CONVOLUTIONAL, "weight x1.5", "middle"),
    (CONVOLUTIONAL, "one channel zero", "middle"),
    (CONVOLUTIONAL, "1 % noise", "middle"),
    (CONVOLUTIONAL, "one NaN", "middle"),
    (CONVOLUTIONAL, "input channels BGR", "first"),
    (CONVOLUTIONAL, "last item gets item 0's result", "late"),
    (CONVOLUTIONAL, "normalisation mean off by 0.1 std", "middle"),
    (TRANSFORMER, "bias dropped", "every"),
    (TRANSFORMER, "activation x1.01", "middle"),
)
HEADER = (
    *("torch_npu", "torch", "build", "loads", "default cases", "rows as expected"),
    *("faults caught", "remarks"),
)


def main() -> int:
    """Measure what is asked for and write the table; 1 when a release is not as it should be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("releases", nargs="*", default=TRIED_TORCH_NPU)
    parser.add_argument("--work", type=Path, default=default_cache_dir() / "releases")
    parser.add_argument("--keep", action="store_true", help="leave the venvs where they are")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        print("\n" + MARK + json.dumps(inside()), flush=True)
        return 0
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    kept = work / "releases.json"
    rows: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else {}
    releases = sorted(map(stacks.version, given.releases))
    for torch, group in itertools.groupby(releases, lambda r: stacks.series(str(r))):
        for release in group:
            rows[str(release)] = {**measure(release, work), "date": str(datetime.date.today())}
            kept.write_text(json.dumps(rows, indent=1))
            write(rows, given.output)
        if not given.keep:
            for venv in work.glob(f"torch-{'.'.join(map(str, torch))}-*"):
                if venv.is_dir():
                    shutil.rmtree(venv)
    asked = [rows[str(release)] for release in releases]
    return 0 if all(sound(row) for row in asked) else 1


def say(line: str) -> None:
    """Progress, on stderr."""
    print(line, file=sys.stderr, flush=True)


def measure(release: Any, work: Path) -> dict[str, Any]:
    """One release in an environment of its own: what `inside` found, or why it did not run."""
    try:
        folder = stacks.wheel(release, work, say)
        torch = stacks.needed_torch(folder) or str(release.base_version)
        python = stacks.venv(torch, packages(), work, say, f"torch_npu {release}")
    except stacks.Unavailable as reason:
        return {"problem": str(reason)}
    say(f"{release}: default cases and faults")
    env = {**stacks.Stack(python, folder).env, "OMP_WAIT_POLICY": "passive"}
    command = [str(python), "-m", "benchmarks.releases", "--inside"]
    done = stacks.run(command, _RUN_SECONDS, env)
    found = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if not found:
        tail = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        return {"problem": f"the process ended with code {done.returncode}: {tail}"}
    answer: dict[str, Any] = json.loads(found[-1].removeprefix(MARK))
    return answer


def packages() -> list[str]:
    """What the harness and its sample need beside torch, from pyproject.toml."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["sample"]]
    return [text for text in wanted if not text.startswith(("torch>", "torchvision>"))]


def inside() -> dict[str, Any]:
    """Runs in the environment under test: versions, default cases, faults."""
    from harness.devices import npu_probe
    from harness.system import environment

    names = ("torch", "torchvision", "timm")
    answer: dict[str, Any] = {name: environment.version(name) for name in names}
    answer["cuda"] = npu_probe.cuda_build()
    with tempfile.TemporaryDirectory() as folder:
        return {**answer, **default_cases(Path(folder)), **faults(Path(folder))}


def default_cases(folder: Path) -> dict[str, Any]:
    """`pytest cases` on the emulated NPU: case -> [status, outcome beside the expected row]."""
    from harness.records.results_file import read_run

    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "cases"]
    command += ["--device", "npu-emulated", f"--results={folder}", f"--reference-cache={folder}/c"]
    done = stacks.run(command, _RUN_SECONDS)
    if not (folder / "results.jsonl").exists():
        text = (done.stderr + done.stdout).strip().splitlines() or ["it printed nothing"]
        return {"problem": f"the cases ended with code {done.returncode}: {text[-1]}"}
    cases = read_run(folder).cases
    return {
        "cases": {
            case.case_id: [
                case.status.value,
                case.expected.outcome.value if case.expected else "no row",
                case.expected.sentence if case.expected else "",
            ]
            for case in cases
        },
        "fallbacks": sorted({name for case in cases for name in fallbacks(case)}),
    }


def fallbacks(case: Any) -> list[str]:
    """Operators of a case that ran on the CPU."""
    return list(case.candidate.fallback_operators) if case.candidate is not None else []


def faults(folder: Path) -> dict[str, Any]:
    """The two models without a fault, then with each: name -> [status, caught]."""
    from harness.cases.case import Case, InputSource, ModelSource
    from harness.detection import catalogue, sensitivity
    from harness.devices.choice import choose
    from harness.devices.fault_plan import Fault, FaultPlan
    from harness.execution.settings import RunSettings
    from harness.execution.sides import Sides
    from harness.runs.runner import CaseRunner
    from harness.system.status import Status

    def case(model: str) -> Case:
        source = ModelSource("architecture", model)
        return Case(source, InputSource("synthetic"), numerics="strict")

    spec = choose("npu-emulated").spec
    settings = RunSettings(spec, folder, localize="never", reference_cache_size=10**9)
    # Without a file of results: in one the worst verdict of a case stands, whatever was planted.
    runner = CaseRunner(Sides(settings))
    honest: dict[str, str] = {}
    planned: dict[tuple[str, str, str], str] = {}
    caught: dict[str, list[Any]] = {}
    try:
        for model in (CONVOLUTIONAL, TRANSFORMER):
            honest[model] = runner.run(case(model)).status.value
            request = runner.sides.request(case(model))
            plain = dataclasses.replace(request, repeat=0, batch_checks=False)
            counts = runner.sides.ask(plain).counters.operators
            per = sensitivity.per_forward(counts, request.inputs.count, request.batch_size)
            for fault in catalogue.instantiate(per):
                planned[model, fault.name, fault.depth] = fault.plan
        abort = FaultPlan((Fault("abort", "Convolution", first=3),)).to_json()
        jobs = [(model, f"{name}, {depth}", planned[model, name, depth])
                for model, name, depth in CHOSEN]  # fmt: skip
        for model, name, plan in [*jobs, (CONVOLUTIONAL, "the process aborts", abort)]:
            runner.sides.settings = dataclasses.replace(settings, fault_plan=plan)
            status = runner.run(case(model)).status
            caught[name] = [status.value, status not in (Status.PASS, Status.INCONCLUSIVE)]
    finally:
        runner.close()
    return {"honest": honest, "faults": caught}


def sound(row: dict[str, Any]) -> bool:
    """Everything ran, every row is as expected, every fault was caught and nothing honest was."""
    return not remarks(row)


def remarks(row: dict[str, Any]) -> list[str]:
    """What is not as it should be, a sentence each."""
    if problem := row.get("problem"):
        return [problem]
    found = [text for _, outcome, text in row["cases"].values() if outcome != "as expected"]
    found += [f"{m} without a fault: {s}" for m, s in row["honest"].items() if s != "pass"]
    found += [f"missed: {name} ({s})" for name, (s, caught) in row["faults"].items() if not caught]
    if row["fallbacks"]:
        found.append(f"on the CPU instead: {', '.join(row['fallbacks'])}")
    return found


def write(rows: dict[str, dict[str, Any]], output: Path) -> None:
    """The table, newest torch last."""
    ordered = sorted(rows, key=stacks.version)
    lines = [_line(HEADER), _line(["---"] * len(HEADER))]
    lines += [_line(_cells(release, rows[release])) for release in ordered]
    dates = sorted({row["date"] for row in rows.values()})
    measured = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    faults = [f"- {name} ({model}, {depth})" for model, name, depth in CHOSEN]
    output.write_text(
        f"""# Releases of torch_npu on the emulated NPU

Made by `python -m benchmarks.releases`, {measured}, {python}, with the torch that plain pip gives
there. EMULATED: it shows that a release loads on the emulator and that the harness judges rightly
with it, and says nothing about hardware. Any other release from {TRIED_TORCH_NPU[0]} on is loaded
as well and named untried in the record.

{chr(10).join(lines)}

The default cases are those of `cases/default.toml`, default and strict, against the rows in
`cases/expected/npu-emulated/`. The faults, each in strict float32, after the same two models had
passed without one; caught means a status that blames the device:

{chr(10).join(faults)}
- the process aborts ({CONVOLUTIONAL})
""",
        encoding="utf-8",
    )


def _cells(release: str, row: dict[str, Any]) -> Sequence[str]:
    torch = row.get("torch", "")
    build = (f"CUDA {row['cuda']}" if row["cuda"] else "CPU") if torch else ""
    said = "; ".join(remarks(row)) or "none"
    if "cases" not in row:
        return (release, torch, build, "no", *["not run"] * 3, said)
    cases, faults = row["cases"].values(), row["faults"].values()
    passed = sum(status == "pass" for status, *_ in cases)
    same = sum(outcome == "as expected" for _, outcome, _ in cases)
    caught = sum(found for _, found in faults)
    counts = (f"{n} of {len(of)}" for n, of in ((same, cases), (caught, faults)))
    return (release, torch, build, "yes", f"{passed} of {len(cases)} pass", *counts, said)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


if __name__ == "__main__":
    sys.exit(main())
