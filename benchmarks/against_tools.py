"""Part e of `python -m benchmarks.bench`: the same comparisons by other tools, cost and power."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import shutil
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import measured, own_cost, planted
from benchmarks.measured import Cost
from benchmarks.planted import Answer, Job

SEEDS = (0, 1, 2)


@dataclasses.dataclass(frozen=True)
class Tool:
    """One way to run jobs; `package` has a version to be named, "" for the harness."""

    title: str
    module: str
    package: str = ""
    variables: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """Title and version."""
        return f"{self.title} {importlib.metadata.version(self.package)}".strip() if (
            self.package
        ) else self.title  # fmt: skip


TOOLS: Mapping[str, Tool] = {
    "harness": Tool("this harness", "benchmarks.with_harness"),
    "polygraphy": Tool("Polygraphy", "benchmarks.with_polygraphy", "polygraphy"),
    "msprobe": Tool("msprobe", "benchmarks.with_msprobe", "mindstudio-probe"),
    "msprobe-tensor": Tool(
        "msprobe, tensors of modules,",
        "benchmarks.with_msprobe",
        "mindstudio-probe",
        (("MSPROBE_TASK", "tensor"),),
    ),
}

USUAL = ("harness", "polygraphy", "msprobe")  # tensors take as long as all others together


def measure(
    device: str, names: Sequence[str], rounds: int, mark: str, say: Callable[[str], None]
) -> str:
    """Run everything; returns both tables, in Markdown."""
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        model, images, faults = prepare(scratch, device)
        jobs = [*faults, *planted.honest(SEEDS)]
        costs = {name: [] for name in cost_rows(names)}
        for number in range(1, rounds + 1):
            for name in costs:
                costs[name].append(honest_run(scratch, device, model, images, name, number))
                say(f"round {number}: {name} {costs[name][-1].wall:.1f} s")
        answers = {}
        for name in names:
            answers[name], cost = ask(scratch, model, images, TOOLS[name], jobs)
            say(f"{name}: {len(jobs)} comparisons in {cost.wall:.0f} s")
    return render(costs, answers, faults, mark)


def prepare(scratch: Path, device: str) -> tuple[Path, Path, list[Job]]:
    """The model's directory, a folder of images by seed, and the faults that fit the model."""
    from harness.cases.case import ModelSource
    from harness.cases.models import loading
    from harness.detection import sensitivity
    from harness.devices.choice import choose
    from harness.execution.settings import RunSettings
    from harness.execution.sides import Sides
    from harness.system import files

    model = loading.materialise(
        ModelSource("architecture", planted.MODEL), files.default_cache_dir()
    )
    images = scratch / "images"
    images.mkdir()
    sides = Sides(RunSettings(choose(device).spec, scratch / "own"))
    try:
        for seed in SEEDS:
            request = sides.request(planted.case(model, Job("honest", seed=seed)))
            shutil.copy(request.inputs.path, images / f"{seed}.safetensors")
        plain = dataclasses.replace(request, repeat=0, batch_checks=False)
        counts = sides.ask(plain).counters.operators
        operators = sensitivity.per_forward(counts, request.inputs.count, request.batch_size)
    finally:
        sides.close()
    return model, images, planted.faults(operators)


def cost_rows(names: Sequence[str]) -> list[str]:
    """Names of what is timed: the harness counts twice, with and without cached references."""
    return [row for name in names for row in (
        ("harness, cold", "harness, warm") if name == "harness" else (name,)
    )]  # fmt: skip


def honest_run(
    scratch: Path, device: str, model: Path, images: Path, name: str, number: int
) -> Cost:
    """One comparison without a fault from a standing start, as a user runs the tool."""
    if name.startswith("harness"):
        return own_cost.one_case(scratch, device, f"cache{number}", "--numerics=strict")
    return ask(scratch, model, images, TOOLS[name], [Job("honest")])[1]


def ask(
    scratch: Path, model: Path, images: Path, tool: Tool, jobs: Sequence[Job]
) -> tuple[list[Answer], Cost]:
    """Run a tool on jobs in a process of its own, in an empty folder."""
    folder = scratch / "tool"
    folder.mkdir()
    asked = scratch / "jobs.json"
    asked.write_text(json.dumps([dataclasses.asdict(job) for job in jobs]), encoding="utf-8")
    try:
        cost = measured.run(
            measured.python("-m", tool.module, str(model), str(images), str(asked), str(folder)),
            folder,
            variables={"TASK_QUEUE_ENABLE": "0", **dict(tool.variables)},
        )
    finally:
        shutil.rmtree(folder)
    answers = json.loads(asked.with_suffix(".answers").read_text(encoding="utf-8"))
    return [Answer(**fields) for fields in answers], cost


def render(
    costs: Mapping[str, Sequence[Cost]],
    answers: Mapping[str, Sequence[Answer]],
    faults: Sequence[Job],
    mark: str,
) -> str:
    """Both tables: what a tool costs and how well it judges, then every fault."""
    planned = {job.name for job in faults}
    rows = []
    for name, found in costs.items():
        tool = name.partition(",")[0]
        own = answers[tool]
        title = name.replace(tool, TOOLS[tool].name, 1)
        rows.append((
            title,
            f"{statistics.median(cost.wall for cost in found):.1f}",
            f"{statistics.median(cost.processor for cost in found):.1f}",
            f"{max(cost.memory for cost in found) / 1e6:.0f}",
            f"{max(cost.disk for cost in found) / 1e6:.1f}",
            f"{sum(one.caught for one in own if one.name in planned)} of {len(planned)}",
            *(alarms(own, numerics) for numerics in ("strict", "default")),
        ))  # fmt: skip
    header = ("tool", "wall, s", "processor, s", "peak memory, MB", "disk written, MB",
              "faults caught", "false alarms, strict", "false alarms, HF32")  # fmt: skip
    honest = [one for one in next(iter(answers.values())) if one.name not in planned]
    shown = [
        (job.name, *(verdict(own, job.name, job.numerics, job.seed) for own in answers.values()))
        for job in faults
    ]
    shown += [
        (
            f"none, {'HF32' if one.numerics == 'default' else 'strict'}, images {one.seed}",
            *(verdict(own, one.name, one.numerics, one.seed) for own in answers.values()),
        )
        for one in honest
    ]
    titles = ["planted fault", *(TOOLS[tool].name for tool in answers)]
    return (
        f"**Other tools, {planted.MODEL}, six images{mark}**\n\n{measured.table(header, rows)}\n\n"
        f"**Faults in strict float32, and honest runs{mark}**\n\n{measured.table(titles, shown)}\n"
    )


def alarms(answers: Sequence[Answer], numerics: str) -> str:
    """How many honest runs a tool found fault with."""
    found = [one for one in answers if one.name == "honest" and one.numerics == numerics]
    return f"{sum(one.caught for one in found)} of {len(found)}"


def verdict(answers: Sequence[Answer], name: str, numerics: str, seed: int) -> str:
    """What a tool said of one comparison."""
    wanted = (name, numerics, seed)
    [found] = [one for one in answers if (one.name, one.numerics, one.seed) == wanted]
    if name == "honest":
        return f"{'ALARM' if found.caught else 'quiet'}: {found.said}"
    return f"{'caught' if found.caught else 'MISSED'}: {found.said}"
