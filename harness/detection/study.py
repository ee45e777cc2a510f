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

from harness.cases.case import Case, InputSource, ModelSource
from harness.cases.formats import FORMATS, case_of
from harness.cases.models import timm_config
from harness.cases.models.sample import SAMPLE_NAME
from harness.detection import catalogue
from harness.detection.sensitivity import Bench, spread_over, worst_ratio
from harness.detection.study_results import SETTINGS, FaultResult, HonestRow, Study
from harness.execution.sides import Sides
from harness.judgement import arithmetic
from harness.judgement.verdict import Verdict
from harness.system import files
from harness.system.status import CaseProblem, UsageProblem
from harness.system.torchvision_shim import import_timm

DEFAULT_MODEL = "efficientnet_b0"


@dataclasses.dataclass(frozen=True)
class StudyPlan:
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


def run(sides: Sides, plan: StudyPlan, report: Callable[[str], None]) -> Study:
    """Run a study; `report` is told of progress.

    A setting or format that does not run at all is a problem of the study, not its end.  Raises
    UsageProblem for a device that cannot plant faults.
    """
    from harness.system import environment

    started = time.perf_counter()
    honest: list[HonestRow] = []
    faults: list[FaultResult] = []
    problems: list[str] = []
    for setting in plan.settings:
        for model, inputs in sources(setting, plan.models, sides.settings.cache_dir):
            for format_name in plan.formats:
                case = case_of(model, inputs, format_name)
                report(f"[{setting}] {case.id}")
                try:
                    honest += _honest(sides, setting, format_name, case)
                    if plan.limit != 0:
                        faults += _faults(sides, setting, format_name, case, plan.limit, report)
                except CaseProblem as problem:
                    problems.append(f"{setting}, {case.id}: {problem.reason}")
                    report(problems[-1])
    for setting, format_name, case in _unseen(plan, sides.settings.cache_dir):
        report(f"[{setting}] honest, {case.id}")
        try:
            honest += _honest(sides, setting, format_name, case)
        except CaseProblem as problem:
            problems.append(f"{setting}, {case.id}: {problem.reason}")
            report(problems[-1])
    return Study(
        emulated=sides.device.emulated,
        device=str(sides.device),
        settings={name: SETTINGS[name] for name in plan.settings},
        environment=environment.capture(),
        seconds=time.perf_counter() - started,
        honest=tuple(honest),
        faults=tuple(faults),
        problems=tuple(problems),
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
    from harness.cases.models.loading import check_architecture
    from harness.cases.models.random_weights import seeded_cpu

    check_architecture(architecture)
    target = cache_dir / "models" / f"plain-{architecture}"
    with seeded_cpu(0):
        model = import_timm().create_model(architecture, pretrained=False)
    state = model.state_dict()
    digest = files.sha256_tensors(state)
    config = timm_config.timm_config(architecture, model, {})
    config["plain_random"] = digest
    try:
        written = json.loads((target / "config.json").read_text(encoding="utf-8"))
        if written["plain_random"] == digest and (target / "model.safetensors").is_file():
            return target
    except (OSError, ValueError, KeyError):
        pass  # not there yet, or of another version
    del config["harness_weights"]
    with files.publish_directory(target) as directory:
        files.save_tensors(state, directory / "model.safetensors", {"format": "pt"})
        files.write_json(config, directory / "config.json")
    return target


def _unseen(plan: StudyPlan, cache_dir: Path) -> Iterator[tuple[str, str, Case]]:
    """Cases on weights and images that no limit was derived from."""
    for setting in plan.settings:
        for seed in range(1, plan.seeds + 1):
            for model, inputs in sources(setting, plan.models, cache_dir, 100 + seed):
                for format_name in plan.formats:
                    yield setting, format_name, case_of(model, inputs, format_name)


def _honest(sides: Sides, setting: str, format_name: str, case: Case) -> Iterator[HonestRow]:
    """The device as it is, with every check of a run, and other honest kernels in its place."""
    request = sides.request(case)
    device = sides.ask(request)
    candidates = {"device": device}
    declared = arithmetic.declared(case.dtype, device.record.numerics)
    if case.dtype == "float32":
        candidates["CPU without oneDNN"] = sides.cpu.planted(request, declared, None, onednn=False)
    else:
        candidates["native CPU kernels"] = sides.cpu.plain(request, declared.gelu)
    for what, result in candidates.items():
        candidate = dataclasses.replace(
            result,
            record=result.record.model_copy(update={"numerics": device.record.numerics}),
            counters=device.counters,
        )
        verdict: Verdict = sides.judge(request, candidate)
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
    sides: Sides,
    setting: str,
    format_name: str,
    case: Case,
    limit: int | None,
    report: Callable[[str], None],
) -> Iterator[FaultResult]:
    bench = Bench(sides, case)
    planned = spread_over(catalogue.instantiate(bench.operators), limit)
    for number, fault in enumerate(planned, start=1):
        row = bench.plant(fault)
        missed = " MISSED" if row.missed else ""
        report(
            f"[{setting}] {format_name} {number}/{len(planned)} {row.fault}, {row.depth}: "
            f"{row.status.value}{missed}"
        )
        yield FaultResult(setting, format_name, case.model.name, row)
