"""The CPU's side in a process of its own: its crash, hang or want of memory costs one case.

The process of the run asks here, and loads no torch itself.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cases.case import InputSource, ModelSource
from harness.cases.inputs import InputSet
from harness.cases.models.model_files import ModelFiles
from harness.cases.precision_plans import PrecisionPlan
from harness.execution.legs import LegRequest, LegResult
from harness.execution.reference.answers import Answers
from harness.execution.reference.cache import ReferenceCache
from harness.execution.settings import RunSettings
from harness.execution.worker import Worker, hide_torch_npu
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.metrics import Array
from harness.judgement.shares import Shares
from harness.system import signing
from harness.system.status import Stage, StageCallback

if TYPE_CHECKING:
    from harness.execution.reference.cpu_side import CpuSide


class CpuProcess:
    """Asks the CPU's side, whose methods these are; raises as `Worker.ask` does.

    `timeout`: seconds for each question.  `quieten`: called before forwards that are timed, so
    that whatever else runs on this host can come to rest.
    """

    def __init__(self, settings: RunSettings, quieten: Callable[[], None]) -> None:
        self.worker: Worker[CpuSide] = Worker(
            _OpenCpuSide(
                settings.cache_dir,
                settings.reference_cache or settings.cache_dir,
                settings.reference_cache_size,
                settings.reference_cache_key,
            )
        )
        self._timeout = settings.case_timeout
        self._quieten = quieten

    def prepare(self, model: ModelSource, images: InputSource) -> tuple[ModelFiles, InputSet]:
        """A case's model and images, made where they are not there yet; `CpuSide.prepare`."""
        found: tuple[ModelFiles, InputSet] = self._ask("prepare", model, images, stage=Stage.LOAD)
        return found

    def pictures(
        self, model: ModelFiles, images: InputSet, wanted: Sequence[int], classes: int,
        named: Collection[int],
    ) -> tuple[list[str], dict[int, str]]:  # fmt: skip
        """Some images and the names of some classes, as `CpuSide.pictures`."""
        found: tuple[list[str], dict[int, str]] = self._ask(
            "pictures", model, images, wanted, classes, named, stage=Stage.COMPARE
        )
        return found

    def check_plan(self, model: ModelFiles, plan: PrecisionPlan) -> None:
        """Raises CaseProblem (fail_load) for a plan that is not of this model."""
        self._ask("check_plan", model, plan, stage=Stage.LOAD)

    def reference(self, request: LegRequest) -> LegResult:
        """The plain CPU leg in the case's dtype, timed like the device's."""
        self._quieten()
        found: LegResult = self._ask("reference", request)
        return found

    def on_images(self, request: LegRequest, images: Array) -> LegResult:
        """One plain forward over other images, as `CpuSide.on_images`."""
        found: LegResult = self._ask("on_images", request, images)
        return found

    def oracle(self, request: LegRequest, gelu: str = "") -> dict[str, Array]:
        """The float64 leg, as `CpuSide.oracle`."""
        found: dict[str, Array] = self._ask("oracle", request, gelu)
        return found

    def plain(self, request: LegRequest, gelu: str) -> LegResult:
        """The CPU leg with every GELU in a form, as `CpuSide.plain`."""
        found: LegResult = self._ask("plain", request, gelu)
        return found

    def planted(
        self,
        request: LegRequest,
        arithmetic: Arithmetic,
        fault_plan: str | None,
        *,
        onednn: bool = True,
    ) -> LegResult:
        """One forward with faults planted through hooks, as `CpuSide.planted`."""
        found: LegResult = self._ask("planted", request, arithmetic, fault_plan, onednn)
        return found

    def answers(self, request: LegRequest, arithmetic: Arithmetic) -> Answers:
        """All that a verdict needs, for an arithmetic that the device declares."""
        found: Answers = self._ask("answers", request, arithmetic)
        return found

    def shares(
        self,
        request: LegRequest,
        arithmetic: Arithmetic,
        names: Sequence[str],
        directions: int,
        most_weights: float = math.inf,
    ) -> Shares:
        """What every rounding contributes to outputs, as `CpuSide.shares`."""
        found: Shares = self._ask("shares", request, arithmetic, names, directions, most_weights)
        return found

    def _ask(self, name: str, *arguments: Any, stage: Stage = Stage.REFERENCE) -> Any:
        return self.worker.ask(_Question(name, arguments, stage), self._timeout, stage)


@dataclasses.dataclass(frozen=True)
class _Question:
    """A method of the CPU's side and what it is given."""

    name: str
    arguments: tuple[Any, ...]
    stage: Stage

    def answer(self, side: CpuSide, on_stage: StageCallback) -> Any:
        on_stage(self.stage)
        return getattr(side, self.name)(*self.arguments)


@dataclasses.dataclass(frozen=True)
class _OpenCpuSide:
    """Opens the CPU's side; fields as in `RunSettings`."""

    cache_dir: Path
    reference_cache: Path
    size: int
    key: Path | None

    def __str__(self) -> str:
        return "the CPU side"

    def open(self) -> CpuSide:
        hide_torch_npu()
        from harness.execution.reference.cpu_side import CpuSide  # brings torch in

        cache = ReferenceCache(self.reference_cache, self.size, signing.cache_key(self.key))
        return CpuSide(cache, self.cache_dir)
