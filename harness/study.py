"""The study that shows that the verdict can fail: faults and honest rounding over settings.

A setting is a model with its weights and six images.  In each, and for each format, every honest
run must not fail, and every fault of the catalogue should.  The same code judges as in a run.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pydantic
import torch

from harness import arithmetic, catalogue, store
from harness.cases import Case, InputSource, ModelSource
from harness.runner import CaseRunner
from harness.sample import SAMPLE_NAME
from harness.sensitivity import Bench, FaultRow, spread_over, worst_ratio
from harness.status import CaseProblem, Status, UsageProblem
from harness.torchvision_shim import import_timm
from harness.verdict import Verdict

# Format -> dtype and numerics profile of its cases.
FORMATS = {
    "strict": ("float32", "strict"),
    "default": ("float32", "default"),
    "float16": ("float16", "strict"),
    "bfloat16": ("bfloat16", "strict"),
}
SETTINGS = {
    "A": "plain random initialisation, noise images",
    "B": "real weights of EfficientNet-Lite0, noise images",
    "C": "real weights of EfficientNet-Lite0, photos",
    "D": "random weights made discriminating, structured images",
}
DEFAULT_MODEL = "efficientnet_b0"


@dataclasses.dataclass(frozen=True)
class HonestRow:
    """One run without a fault.  `what`: who computed it; `inputs`: on which images."""

    setting: str
    format: str
    what: str
    inputs: str
    status: Status
    ratio: float | None
    limit: float | None
    gate_passed: bool | None

    @property
    def false_alarm(self) -> bool:
        """Whether an honest run was failed; `inconclusive` accuses nobody."""
        return self.status not in (Status.PASS, Status.INCONCLUSIVE)


@dataclasses.dataclass(frozen=True)
class FaultResult:
    """One fault in one setting and format."""

    setting: str
    format: str
    model: str
    row: FaultRow


@dataclasses.dataclass(frozen=True)
class Study:
    """All results of a study; `emulated`: the faults were planted in the emulated NPU."""

    emulated: bool
    device: str
    settings: dict[str, str]
    environment: dict[str, str]
    seconds: float
    honest: tuple[HonestRow, ...]
    faults: tuple[FaultResult, ...]
    problems: tuple[str, ...] = ()

    @property
    def formats(self) -> tuple[str, ...]:
        """Formats in the order in which they were run."""
        return tuple(dict.fromkeys(row.format for row in self.honest))


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to run.

    `models`: architectures for the settings with random weights (A and D); `seeds`: further seeds
    of images and random weights for the honest runs; `limit`: faults per setting and format, None
    for all, 0 for honest runs only.
    """

    settings: tuple[str, ...] = tuple(SETTINGS)
    formats: tuple[str, ...] = tuple(FORMATS)
    models: tuple[str, ...] = (DEFAULT_MODEL,)
    seeds: int = 3
    limit: int | None = None

    def __post_init__(self) -> None:
        for given, known, what in (
            (self.settings, SETTINGS, "setting"),
            (self.formats, FORMATS, "format"),
        ):
            for name in given:
                if name not in known:
                    raise UsageProblem(f"Unknown {what} {name!r}: give {', '.join(known)}.")


def run(runner: CaseRunner, plan: Plan, report: Callable[[str], None]) -> Study:
    """Run a study; `report` is told of progress.

    A setting or format that does not run at all is a problem of the study, not its end.  Raises
    UsageProblem for a device that cannot plant faults.
    """
    from harness import environment

    started = time.perf_counter()
    honest: list[HonestRow] = []
    faults: list[FaultResult] = []
    problems: list[str] = []
    for setting in plan.settings:
        for model, inputs in sources(setting, plan.models, runner.options.cache_dir):
            for format_name in plan.formats:
                case = _case(model, inputs, format_name)
                report(f"[{setting}] {case.id}")
                try:
                    honest += _honest(runner, setting, format_name, case)
                    if plan.limit != 0:
                        faults += _faults(runner, setting, format_name, case, plan.limit, report)
                except CaseProblem as problem:
                    problems.append(f"{setting}, {case.id}: {problem.reason}")
                    report(problems[-1])
    for setting, format_name, case in _unseen(plan, runner.options.cache_dir):
        report(f"[{setting}] honest, {case.id}")
        try:
            honest += _honest(runner, setting, format_name, case)
        except CaseProblem as problem:
            problems.append(f"{setting}, {case.id}: {problem.reason}")
            report(problems[-1])
    return Study(
        emulated=runner.options.device.emulated,
        device=str(runner.options.device),
        settings={name: SETTINGS[name] for name in plan.settings},
        environment=environment.capture(),
        seconds=time.perf_counter() - started,
        honest=tuple(honest),
        faults=tuple(faults),
        problems=tuple(problems),
    )


def save(study: Study, path: Path) -> None:
    """Write a study as JSON; non-finite numbers cannot occur in it."""
    path.write_bytes(pydantic.TypeAdapter(Study).dump_json(study, indent=1) + b"\n")


def load(path: Path) -> Study:
    """Read what `save` wrote.  Raises UsageProblem for a file that is no study."""
    try:
        return pydantic.TypeAdapter(Study).validate_json(path.read_bytes())
    except (OSError, pydantic.ValidationError) as error:
        raise UsageProblem(f"{path} is no study of this harness: {error}") from error


def join(studies: Sequence[Study]) -> Study:
    """Studies of different settings or formats on one kind of device, as one.

    Raises UsageProblem when they overlap or ran on different devices or versions.
    """
    first = studies[0]
    seen: set[tuple[str, str, str]] = set()
    for other in studies:
        if (other.device, other.environment) != (first.device, first.environment):
            raise UsageProblem("The studies ran on different devices or versions: run one anew.")
        own = {(result.setting, result.format, result.model) for result in other.faults}
        if seen & own:
            setting, format_name, model = sorted(seen & own)[0]
            raise UsageProblem(f"Two of the studies hold {model} in {setting}, {format_name}.")
        seen |= own
    return dataclasses.replace(
        first,
        settings={
            name: SETTINGS[name]
            for name in SETTINGS
            if any(name in other.settings for other in studies)
        },
        seconds=sum(other.seconds for other in studies),
        honest=tuple(row for other in studies for row in other.honest),
        faults=tuple(result for other in studies for result in other.faults),
        problems=tuple(text for other in studies for text in other.problems),
    )


def sources(
    setting: str, models: Sequence[str], cache_dir: Path, seed: int = 0
) -> list[tuple[ModelSource, InputSource]]:
    """Models and images of a setting; `seed` varies what the setting draws at random."""
    if setting == "A":
        noise = InputSource("noise", seed=seed)
        directories = [plain_random(name, cache_dir) for name in models]
        return [(ModelSource("directory", str(path)), noise) for path in directories]
    if setting == "B":
        return [(ModelSource("sample", SAMPLE_NAME), InputSource("noise", seed=seed))]
    if setting == "C":
        # There are six photos only: other seeds take structured images.
        images = InputSource("synthetic", seed=seed) if seed else InputSource("photos")
        return [(ModelSource("sample", SAMPLE_NAME), images)]
    return [
        (ModelSource("architecture", name, seed=seed), InputSource("synthetic", seed=seed))
        for name in models
    ]


def plain_random(architecture: str, cache_dir: Path) -> Path:
    """A timm directory with the weights of a plain random initialisation (seed 0).

    This is what a harness without weights does, and made here only: outputs of different images
    are alike, so that nothing can be seen.
    """
    from harness.models import check_architecture
    from harness.weights import seeded_cpu

    check_architecture(architecture)
    target = cache_dir / "models" / f"plain-{architecture}"
    with seeded_cpu(0):
        model = import_timm().create_model(architecture, pretrained=False)
    state = model.state_dict()
    digest = store.sha256_tensors(state)
    config = store.timm_config(architecture, model, {})
    config["plain_random"] = digest
    try:
        written = json.loads((target / "config.json").read_text(encoding="utf-8"))
        if written["plain_random"] == digest and (target / "model.safetensors").is_file():
            return target
    except (OSError, ValueError, KeyError):
        pass  # not there yet, or of another version
    del config["harness_weights"]
    with store.publish_directory(target) as directory:
        store.save_tensors(state, directory / "model.safetensors", {"format": "pt"})
        store.write_json(config, directory / "config.json")
    return target


def _case(model: ModelSource, inputs: InputSource, format_name: str) -> Case:
    dtype, numerics = FORMATS[format_name]
    return Case(model, inputs, dtype=dtype, numerics=numerics)


def _unseen(plan: Plan, cache_dir: Path) -> Iterator[tuple[str, str, Case]]:
    """Cases on weights and images that no limit was derived from."""
    for setting in plan.settings:
        for seed in range(1, plan.seeds + 1):
            for model, inputs in sources(setting, plan.models, cache_dir, 100 + seed):
                for format_name in plan.formats:
                    yield setting, format_name, _case(model, inputs, format_name)


def _honest(runner: CaseRunner, setting: str, format_name: str, case: Case) -> Iterator[HonestRow]:
    """The device as it is, with every check of a run, and other honest kernels in its place."""
    request = runner.request(case)
    device = runner.worker.run(request, runner.options.case_timeout)
    candidates = {"device": device}
    declared = arithmetic.declared(case.dtype, device.record.numerics)
    if case.dtype == "float32":
        with torch.backends.mkldnn.flags(enabled=False):
            candidates["CPU without oneDNN"] = runner.cpu.planted(request, declared, None)
    else:
        candidates["native CPU kernels"] = runner.cpu.plain(request, declared.gelu)
    for what, result in candidates.items():
        candidate = dataclasses.replace(
            result,
            record=result.record.model_copy(update={"numerics": device.record.numerics}),
            counters=device.counters,
        )
        verdict: Verdict = runner.judge(request, candidate)
        ratio, limit = worst_ratio(verdict)
        yield HonestRow(
            setting=setting,
            format=format_name,
            what=what,
            inputs=request.inputs.description,
            status=verdict.status,
            ratio=ratio,
            limit=limit,
            gate_passed=verdict.gate.passed if verdict.gate else None,
        )


def _faults(
    runner: CaseRunner,
    setting: str,
    format_name: str,
    case: Case,
    limit: int | None,
    report: Callable[[str], None],
) -> Iterator[FaultResult]:
    bench = Bench(runner, case)
    planned = spread_over(catalogue.instantiate(bench.operators), limit)
    for number, fault in enumerate(planned, start=1):
        row = bench.plant(fault)
        missed = " MISSED" if row.missed else ""
        report(
            f"[{setting}] {format_name} {number}/{len(planned)} {row.fault}, {row.depth}: "
            f"{row.status.value}{missed}"
        )
        yield FaultResult(setting, format_name, case.model.name, row)
