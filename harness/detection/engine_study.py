"""The study of honest kernels that nobody here wrote: engines in the place of a device.

Each model runs end to end in an engine, and each operator of its forward pass by itself; both are
judged by the code that judges any device.  Nothing is planted, so nothing may be accused.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import time
from collections.abc import Callable, Sequence

from harness.cases.case import InputSource, ModelSource
from harness.cases.formats import case_of, dtype_and_numerics
from harness.detection.engines import EngineDevice, open_engine
from harness.detection.study_results import EngineRow, EngineStudy, Kind, Operators
from harness.execution import legs
from harness.execution.sides import Sides
from harness.judgement import operator_rows
from harness.judgement.operator_rows import OperatorRow
from harness.judgement.verdict import Verdict
from harness.system import environment, processor
from harness.system.status import CaseProblem

# Small architectures of different families.
MODELS = tuple(
    """mobilenetv3_small_050 mnasnet_small ghostnet_050 repghostnet_050 regnety_002 resnet10t
    skresnet18 dla46_c hgnetv2_b0 ese_vovnet19b_slim_dw rexnet_100 efficientnet_b0_g8_gn
    efficientvit_b0 efficientvit_m0 edgenext_xx_small mobilevit_xxs levit_128s efficientformerv2_s0
    fastvit_t8 repvit_m0_9 shvit_s1 starnet_s1 swiftformer_xs convnext_atto inception_next_atto
    mambaout_femto poolformer_s12 vit_tiny_patch16_224 xcit_nano_12_p16_224 pit_ti_224 pvt_v2_b0
    convit_tiny crossvit_tiny_240 coat_lite_tiny tiny_vit_5m_224 eva02_tiny_patch14_224
    gmlp_ti16_224 mixer_s32_224 densenet121 coatnet_pico_rw_224""".split()
)


@dataclasses.dataclass(frozen=True)
class EnginePlan:
    """What to run: `share`, in [0, 1], is the part of the operators to run one by one."""

    engines: tuple[str, ...]
    models: tuple[str, ...] = MODELS
    formats: tuple[str, ...] = ("strict",)
    share: float = 1.0

    def __post_init__(self) -> None:
        for name in self.formats:
            dtype_and_numerics(name)


def run(sides: Sides, plan: EnginePlan, report: Callable[[str], None]) -> EngineStudy:
    """Run a study; `report` is told of progress.

    What an engine does not take is a problem of the study, not its end.  Raises UsageProblem for
    an engine that is not there.
    """
    started = time.perf_counter()
    engines = [open_engine(name) for name in plan.engines]
    rows: list[EngineRow] = []
    operators: list[Operators] = []
    problems: list[str] = []
    for model in plan.models:
        for format_name in plan.formats:
            source = ModelSource("architecture", model)
            case = case_of(source, InputSource("synthetic"), format_name)
            for engine in engines:
                what = engine.title, format_name, model
                try:
                    one = _One(sides, EngineDevice(engine, case.dtype), what)
                    request = sides.request(case)
                    if plan.share:
                        operators.append(one.operators(request, plan.share))
                        report(_line(operators[-1]))
                    rows.append(one.whole(request))
                    report(f"{', '.join(what)}: {rows[-1].status.value} {rows[-1].ratio}")
                except CaseProblem as problem:
                    problems.append(f"{', '.join(what)}: {problem.reason}")
                    report(problems[-1])
    return EngineStudy(
        processor=processor.name(),
        date=datetime.date.today().isoformat(),
        environment=environment.capture(),
        seconds=time.perf_counter() - started,
        rows=tuple(rows),
        operators=tuple(operators),
        problems=tuple(problems),
    )


class _One:
    """One model in one engine and format."""

    def __init__(self, sides: Sides, device: EngineDevice, what: tuple[str, str, str]) -> None:
        self._sides = sides
        self._device = device
        self._what = what
        self._check: operator_rows.OperatorCheck | None = None

    def operators(self, request: legs.LegRequest, share: float) -> Operators:
        """Every operator of the forward pass by itself.  Raises CaseProblem."""
        numerics = self._device.apply_numerics(request.numerics)
        request = dataclasses.replace(request, operator_share=share)
        rows = legs.operators_alone(self._device, request, request.inputs.load(), numerics)
        self._check = operator_rows.summarise(rows, share)
        return Operators(*self._what, kinds(rows), tuple(operator_rows.culprits(rows)))

    def whole(self, request: legs.LegRequest) -> EngineRow:
        """The model end to end, and the verdict on it and on its operators.

        Raises CaseProblem.
        """
        request = dataclasses.replace(request, operator_share=0.0)
        result = legs.run(self._device, request, lambda stage: None)
        result = dataclasses.replace(result, operators=self._check)
        verdict: Verdict = self._sides.judge(request, result)
        budgets = verdict.budgets
        return EngineRow(
            *self._what,
            status=verdict.status,
            reason=verdict.leading.reason if verdict.leading else "",
            ratio=max((row.ratio for row in budgets), default=None),
            image_ratio=max((max(row.image_ratios) for row in budgets), default=None),
            slice_ratio=max((row.slice_ratio for row in budgets), default=None),
            limit=max((row.limit for row in budgets), default=None),
            gate_passed=verdict.gate.passed if verdict.gate else None,
        )


def kinds(rows: Sequence[OperatorRow]) -> tuple[Kind, ...]:
    """What was found of each kind of operator, in the order of first use."""
    found: dict[str, list[OperatorRow]] = collections.defaultdict(list)
    for row in rows:
        if row.skipped not in operator_rows.NO_LAYER:
            found[row.operator].append(row)
    return tuple(_kind(name, of_kind) for name, of_kind in found.items())


def _kind(name: str, rows: Sequence[OperatorRow]) -> Kind:
    compared = operator_rows.compared(rows)
    return Kind(
        operator=name,
        compared=len(compared),
        culprits=len(operator_rows.culprits(rows)),
        ratio=max((row.ratio for row in compared), default=None),
        slice_ratio=max((row.worst_slice_ratio for row in compared), default=None),
        skipped=len(rows) - len(compared),
        why=next((row.skipped for row in rows if row.skipped), ""),
    )


def _line(found: Operators) -> str:
    compared = sum(kind.compared for kind in found.kinds)
    ratio = max((kind.ratio or 0.0 for kind in found.kinds), default=0.0)
    return (
        f"{found.engine}, {found.format}, {found.model}: {compared} operators, "
        f"{len(found.culprits)} culprits, greatest ratio {ratio:.2g}"
    )
