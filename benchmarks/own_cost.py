"""What the harness itself costs: parts a to d and f of `python -m benchmarks.bench`."""

from __future__ import annotations

import contextlib
import csv
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import measured
from benchmarks.measured import Cost, Target

if TYPE_CHECKING:
    from harness.execution.legs import LegRequest
    from harness.execution.sides import Sides

MODEL = "efficientnet_b0"
CASES = 1000
_VERDICTS = 20  # a round: other work on the machine disturbs short ones most
_DEFAULT = 'numerics = ["default"]\n'
_WITHOUT_OPERATORS = "--operator-share=0"
_FORMATS = {
    "strict": 'numerics = ["strict"]\n',
    "default": _DEFAULT,
    "float16": 'dtype = ["float16"]\nnumerics = ["default"]\n',
}


def runs(
    device: str, rounds: int, parts: str, say: Callable[[str], None], architecture: str = MODEL
) -> list[Target]:
    """Parts a and b: cold and warm runs of pytest beside the bare scripts, in alternation."""
    from harness.cases.case import ModelSource
    from harness.cases.models import loading
    from harness.system import files

    source = ModelSource("architecture", architecture)
    model = loading.materialise(source, files.default_cache_dir())
    found: dict[str, list[Cost]] = {"bare": [], "cold": [], "warm": [], "minimal": []}
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        one_case(
            scratch, device, "unmeasured", _WITHOUT_OPERATORS, architecture=architecture
        )  # builds the emulator, pages packages in
        for number in range(1, rounds + 1):
            found["bare"].append(bare(scratch, model))
            for state in ("cold", "warm"):
                cost = one_case(
                    scratch, device, f"cache{number}", _WITHOUT_OPERATORS,
                    architecture=architecture,
                )  # fmt: skip
                found[state].append(cost)
            found["minimal"].append(bare(scratch, model, "--minimal"))
            last = {name: costs[-1] for name, costs in found.items()}
            say(f"round {number}: " + "; ".join(
                f"{name} {cost.wall:.1f} s (processor {cost.processor:.1f} s, peak memory "
                f"{cost.memory / 1e9:.2f} GB)"
                for name, cost in last.items()))  # fmt: skip
    targets = []
    for part, name, wanted in (("a", "cold", 1.25), ("b", "warm", 1.0)):
        if part not in parts:
            continue
        against = measured.ratio(found[name], found["bare"])
        minimal = measured.ratio(found[name], found["minimal"])
        targets.append(
            Target(
                f"({part}) {name} run / bare script with the same builds and forwards"
                + ("" if architecture == MODEL else f", {architecture}"),
                against.wall,
                wanted,
                ratios=against.walls,
                detail=f"wall, median of {rounds}, {against.range}; processor "
                f"{against.processor:.2f}; of the published protocol alone {minimal.wall:.2f} "
                f"(processor {minimal.processor:.2f})",
            )
        )
    return targets


def operators(device: str, rounds: int, say: Callable[[str], None]) -> list[Target]:
    """Part f: cold cases as they are, beside the same without their operators one by one."""
    targets = []
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        one_case(scratch, device, "unmeasured")
        for name, keys in _FORMATS.items():
            found: dict[str, list[Cost]] = {"usual": [], "without": [], "warm": []}
            for number in range(rounds):
                cache = f"{name}{number}"
                found["without"].append(
                    one_case(scratch, device, f"{cache}-0", _WITHOUT_OPERATORS, keys=keys)
                )
                found["usual"].append(one_case(scratch, device, cache, keys=keys))
                found["warm"].append(one_case(scratch, device, cache, keys=keys))
                last = {state: costs[-1] for state, costs in found.items()}
                say(f"{name}: " + "; ".join(
                    f"{state} {cost.wall:.1f} s (processor {cost.processor:.1f} s)"
                    for state, cost in last.items()))  # fmt: skip
            cold = measured.ratio(found["usual"], found["without"])
            warm = measured.ratio(found["warm"], found["without"])
            targets.append(
                Target(
                    f"(f) {name}: cold case / the same with --operator-share 0",
                    cold.wall,
                    1.5,
                    ratios=cold.walls,
                    detail=f"wall, median of {rounds}, {cold.range}; processor "
                    f"{cold.processor:.2f}; warm / the same cold {warm.wall:.2f}",
                )
            )
    return targets


def bare(scratch: Path, model: Path, *options: str) -> Cost:
    """One run of the bare script."""
    command = measured.python("-m", "benchmarks.bare", str(model), *options)
    return measured.run(command, scratch, variables={"TASK_QUEUE_ENABLE": "0"})


def one_case(
    scratch: Path,
    device: str,
    cache: str,
    *options: str,
    keys: str = _DEFAULT,
    architecture: str = MODEL,
) -> Cost:
    """One run of pytest, through `harness run`, over one case; a new `cache` is a cold one."""
    case_file = scratch / "case.toml"
    case_file.write_text(case_text(architecture) + keys, encoding="utf-8")
    results = scratch / "results"
    command = measured.python(
        *("-m", "harness", "run", f"--device={device}", f"--case-file={case_file}"),
        *(f"--results={results}", f"--reference-cache={scratch / cache}"),
        *("-p", "no:cacheprovider", *options),
    )
    return measured.run(command, scratch)


def case_text(architecture: str) -> str:
    """A case file's entry for an architecture on synthetic images."""
    return f'[[case]]\narchitecture = "{architecture}"\ninputs = ["synthetic"]\n'


def collection(rounds: int, say: Callable[[str], None]) -> list[Target]:
    """Part c: 1,000 cases collected and listed, beyond what one case takes."""
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        files = {count: case_file(scratch / f"{count}.toml", count) for count in (1, CASES)}
        targets = []
        for name in ("--collect-only", "--list"):
            beyond = []
            for _ in range(rounds):
                few, many = (
                    measured.run(
                        measured.python(
                            *("-m", "harness", "run", name, "-q", "-p", "no:cacheprovider"),
                            *(f"--case-file={files[count]}", "--device=npu-emulated"),
                        ),
                        scratch,
                    )
                    for count in (1, CASES)
                )
                beyond.append((many.wall - few.wall, many.processor - few.processor, few.wall))
                say(f"{name}: 1 case {few.wall:.2f} s, {CASES} cases {many.wall:.2f} s")
            wall, processor, first = (
                statistics.median(column) for column in zip(*beyond, strict=True)
            )
            targets.append(
                Target(
                    f"(c) pytest {name} of {CASES:,} cases beyond one case",
                    wall,
                    2.0,
                    " s",
                    f"wall, median of {rounds}; processor {processor:.2f} s; one case "
                    f"{first:.1f} s",
                )
            )
    return targets


def case_file(path: Path, count: int) -> Path:
    """Write a case file with the first `count` of timm's architectures."""
    with (measured.ROOT / "harness" / "cases" / "architectures.csv").open() as opened:
        rows = csv.DictReader(line for line in opened if not line.startswith("#"))
        names = [row["name"] for row in rows][:count]
    assert len(names) == count
    text = "".join(case_text(name) + 'numerics = ["strict"]\n' for name in names)
    path.write_text(text, encoding="utf-8")
    return path


def verdict(device_name: str, rounds: int, say: Callable[[str], None]) -> list[Target]:
    """Part d: verdict and metrics of a case beside its forward passes.

    The verdict covers every output of the device and of both other ways to batch the images.  A
    forward is one timed pass of all images on both sides.
    """
    return [_verdict_of(model, device_name, rounds, say) for model in (MODEL, "resnet50")]


def _verdict_of(model: str, device_name: str, rounds: int, say: Callable[[str], None]) -> Target:
    from harness.execution.reference.cpu_side import CpuSide

    judged, processor, on_cpu, on_device, ratios = [], [], [], [], []
    with prepared(device_name, model) as (sides, request):
        for _ in range(rounds):
            candidate = sides.ask(request)
            forwards = candidate.record.timing.forward_seconds
            on_device += forwards
            reference = CpuSide().reference(request).record.timing.forward_seconds
            on_cpu += reference
            sides.judge(request, candidate)  # runs the CPU's legs where they are not there yet
            before = time.process_time()
            judged += [
                seconds(lambda: sides.judge(request, candidate))  # noqa: B023
                for _ in range(_VERDICTS)
            ]
            processor.append((time.process_time() - before) / _VERDICTS)
            both = statistics.median(forwards) + statistics.median(reference)
            ratios.append(100 * statistics.median(judged[-_VERDICTS:]) / both)
    taken, cpu, device = map(statistics.median, (judged, on_cpu, on_device))
    say(f"{model}: verdict {1e3 * taken:.1f} ms; forward {1e3 * cpu:.0f} ms on the CPU, "
        f"{1e3 * device:.0f} ms on the device")  # fmt: skip
    return Target(
        f"(d) verdict and metrics of a case / one forward of both sides, {model}",
        100 * taken / (cpu + device),
        2.0,
        " %",
        f"{1e3 * taken:.1f} ms of {1e3 * cpu:.0f} ms on the CPU and {1e3 * device:.0f} ms on "
        f"the device, medians; of the CPU's alone {100 * taken / cpu:.1f} %; "
        f"processor of the verdict {1e3 * statistics.median(processor):.1f} ms",
        tuple(ratios),
    )


@contextlib.contextmanager
def prepared(device_name: str, model: str = MODEL) -> Iterator[tuple[Sides, LegRequest]]:
    """Sides without a cache, and the request of a model's one case."""
    from harness.cases import case_files
    from harness.devices.choice import choose
    from harness.execution.settings import RunSettings
    from harness.execution.sides import Sides

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "case.toml"
        path.write_text(case_text(model) + _DEFAULT, encoding="utf-8")
        [case] = case_files.read(path)
        spec = choose(device_name).spec
        sides = Sides(RunSettings(spec))
        try:
            sides.worker.start()
            yield sides, sides.request(case)
        finally:
            sides.close()


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
