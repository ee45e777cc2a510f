"""The CPU's answers: in the case's dtype, in float64, and rounded as the device declares.

They do not depend on the device, so cases that differ only in the device's settings share them,
and runs on other devices, versions of torch_npu and hosts find them in the reference cache.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from harness.cases.case import InputSource, ModelSource
from harness.cases.inputs import InputSet
from harness.cases.models.model_files import ModelFiles
from harness.cases.precision_plans import PrecisionPlan
from harness.execution import legs, shares
from harness.execution.cpu_variants import CpuVariant, VariantCpu
from harness.execution.legs import LegRequest, LegResult
from harness.execution.own_module import OwnModule
from harness.execution.reference import forms, held_models, keys, pictures
from harness.execution.reference.answers import Answers
from harness.execution.reference.cache import ReferenceCache, false
from harness.execution.reference.forms import Form
from harness.execution.reference.held_models import HeldModels
from harness.execution.reference.keys import Key
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.budget import Budget
from harness.judgement.metrics import Array, count_nonfinite
from harness.judgement.shares import Shares
from harness.system.files import default_cache_dir
from harness.system.messages import Said, say
from harness.system.status import CaseProblem, Stage, Status, UsageProblem

# Cases that share answers follow each other: a default and a strict one need five legs.
_KEPT = 8

_PLAIN = CpuVariant()

_Answer = TypeVar("_Answer")


class CpuSide:
    """Runs CPU legs in this process; keeps the last few, and all of them in `cache` if given.

    `computed`: legs that really ran, each of them forward passes on the CPU.  `cache_dir`: for
    models that are made, and, without a `cache`, for images.
    """

    def __init__(self, cache: ReferenceCache | None = None, cache_dir: Path | None = None) -> None:
        self.computed = 0
        self._cache_dir = cache_dir or default_cache_dir()
        self._images = cache or ReferenceCache(self._cache_dir, 0)
        self._cache = cache if cache is not None and cache.size else None
        self._data_configs: dict[ModelFiles, dict[str, Any]] = {}
        self._models = HeldModels()
        self._kept: collections.OrderedDict[tuple[LegRequest, CpuVariant], LegResult] = (
            collections.OrderedDict()
        )

    def release(self) -> None:
        """Let go of a large model while the device works."""
        self._models.release()

    def prepare(self, source: ModelSource, images: InputSource) -> tuple[ModelFiles, InputSet]:
        """A case's model, whose weights are all accounted for, and its images.

        Raises CaseProblem (fail_load).
        """
        model = ModelFiles.of(source, self._cache_dir)
        try:
            return model, self._images.prepare_inputs(images, self._data_config(model))
        except UsageProblem as problem:
            # Images named in a case file: the other cases still run.
            raise CaseProblem(Status.FAIL_LOAD, Stage.LOAD, problem.said) from problem

    def pictures(
        self, model: ModelFiles, images: InputSet, wanted: Sequence[int], classes: int,
        named: Collection[int],
    ) -> tuple[list[str], dict[int, str]]:  # fmt: skip
        """Some images as `pictures.jpegs`, some classes' names as `pictures.names`."""
        shown = pictures.jpegs(images, self._data_config(model), wanted)
        return shown, pictures.names(model, classes, named) if classes else {}

    def check_plan(self, model: ModelFiles, plan: PrecisionPlan) -> None:
        """Raises CaseProblem (fail_load) for a plan that is not of this model."""
        loaded = self._models.original(model)
        modules = [path for path, _ in loaded.model.named_modules() if path]
        if wrong := plan.check(loaded.weights_sha256, modules):
            raise CaseProblem(Status.FAIL_LOAD, Stage.LOAD, wrong)

    def answers(self, request: LegRequest, arithmetic: Arithmetic) -> Answers:
        """All that a verdict needs, for an arithmetic that the device declares."""
        gelu, reference = arithmetic.gelu, self.reference(request)
        if isinstance(request.model, OwnModule):
            try:
                self.oracle(request)
            except CaseProblem as problem:
                return Answers(reference, no_oracle=problem.reason)
        return Answers(
            reference,
            self.oracle(request, gelu),
            self.oracle(request) if gelu else None,
            self.budget(request, arithmetic),
        )

    def reference(self, request: LegRequest) -> LegResult:
        """The plain CPU leg in the case's dtype, timed like the device's, with its ranges."""
        return self._run(
            request.on_cpu(repeat=request.repeat, ranges=True, promoted=request.promoted)
        )

    def on_images(self, request: LegRequest, images: Array) -> LegResult:
        """One plain forward over other images, float32 [N, C, H, W]; not kept."""
        return self._fresh(request.on_cpu(), _PLAIN, images)

    def oracle(self, request: LegRequest, gelu: str = "") -> dict[str, Array]:
        """The float64 leg; `gelu`: with every GELU in that form, as `Arithmetic.gelu`.

        Raises CaseProblem (fail_reference) when there is none to be had.
        """
        return self._run(request.on_cpu(dtype="float64"), _form(gelu)).outputs

    def plain(self, request: LegRequest, gelu: str) -> LegResult:
        """The CPU leg in the case's dtype, with its own kernels and every GELU in a form."""
        return self._run(request.on_cpu(), _form(gelu)) if gelu else self.reference(request)

    def budget(self, request: LegRequest, arithmetic: Arithmetic) -> Budget:
        """Honest runs in an arithmetic.

        Full float32 is the CPU's own float32 in two orders of summation; a reduced arithmetic
        is imitated.  Raises CaseProblem (fail_reference) when the format cannot hold the model.
        """
        if arithmetic.full:
            reordered = dataclasses.replace(_form(arithmetic.gelu), reorder=True)
            runs = (
                self.plain(request, arithmetic.gelu),
                self._run(request.on_cpu(), reordered),
            )
            return Budget(arithmetic, tuple(run.outputs for run in runs))
        run = self._run(request.on_cpu(dtype="float32"), CpuVariant(imitate=arithmetic))
        broken = [name for name, array in run.outputs.items() if count_nonfinite(array)]
        if broken:
            raise CaseProblem(
                Status.FAIL_REFERENCE,
                Stage.REFERENCE,
                say(
                    "format.overflow",
                    "The model does not fit {arithmetic}: {names} becomes NaN or infinite on the "
                    "CPU too when it rounds to that format (its largest number is exceeded). Use "
                    "bfloat16, float32 or a plan (python -m harness prescribe).",
                    arithmetic=arithmetic,
                    names=", ".join(broken),
                ),
            )
        return Budget(arithmetic, (run.outputs,))

    def planted(
        self,
        request: LegRequest,
        arithmetic: Arithmetic,
        fault_plan: str | None,
        onednn: bool = True,
    ) -> LegResult:
        """One forward in an arithmetic with faults planted through hooks; not kept.

        `onednn`: False for ATen's own kernels.
        """
        variant = CpuVariant(imitate=None if arithmetic.exact else arithmetic, hooks=True)
        before = torch.backends.mkldnn.enabled
        torch.backends.mkldnn.enabled = before and onednn  # type: ignore[assignment]
        try:
            return self._fresh(request.on_cpu(dtype="float32", fault_plan=fault_plan), variant)
        finally:
            torch.backends.mkldnn.enabled = before

    def shares(
        self,
        request: LegRequest,
        arithmetic: Arithmetic,
        names: Sequence[str],
        directions: int,
        most_weights: float = math.inf,
    ) -> Shares:
        """What every rounding of a reduced arithmetic contributes to outputs.

        Raises CaseProblem: fail_unsupported for a model that has none, without a derivative or
        with too many weights; error_harness as for a leg that others stored.
        """

        return self._through_cache(
            request,
            lambda: keys.shares_key(request, arithmetic, names, directions),
            lambda: self._shares(request, arithmetic, names, directions, most_weights),
            forms.SHARES,
        )

    def _shares(
        self,
        request: LegRequest,
        arithmetic: Arithmetic,
        names: Sequence[str],
        directions: int,
        most_weights: float,
    ) -> Shares:
        loaded = self._models.own(request.model)
        self._models.release()  # each of its weights is held three times meanwhile
        try:
            return shares.measure(
                loaded.model,
                request.inputs.load(),
                arithmetic,
                names,
                directions,
                taps_features=loaded.taps_features,
                most_weights=most_weights,
            )
        except (ValueError, RuntimeError, NotImplementedError) as error:
            text = error.args[0] if error.args else ""
            if not isinstance(text, Said):  # torch's own
                text = say("quoted", "{text}", text=" ".join(str(error).split())[:400])
            raise CaseProblem(Status.FAIL_UNSUPPORTED, Stage.REFERENCE, text) from error

    def data_config(self, model: ModelFiles) -> dict[str, Any]:
        """A model's preprocessing, from the cache or by loading the model.

        An entry means that this very model was loaded before, with every weight accounted for.
        Raises as `ModelFiles.load` does.
        """
        key = self._models.key(model) if self._cache else None
        stored = self._cache.get(key) if self._cache and key else None
        if stored is not None:
            # JSON knows no tuples, which timm gives and expects.
            found = {
                k: tuple(v) if isinstance(v, list) else v
                for k, v in stored.facts["data_config"].items()
            }
            if self._cache is None or not self._cache.doubts(stored, "model"):
                return found
            if found != self._models.original(model).data_config:
                raise false(stored, model.directory.name)
            return found
        loaded = self._models.original(model)
        if self._cache and key and self._models.key(model) == key:
            facts = {"model": model.directory.name, "data_config": loaded.data_config}
            self._cache.put(key, {}, facts)
        return loaded.data_config

    def _data_config(self, model: ModelFiles) -> dict[str, Any]:
        if model not in self._data_configs:
            self._data_configs[model] = self.data_config(model)
        return self._data_configs[model]

    def _fresh(
        self, request: LegRequest, variant: CpuVariant, images: Array | None = None
    ) -> LegResult:
        self.computed += 1
        cpu = VariantCpu(variant)
        return legs.run(cpu, request, lambda stage: None, self._models.own, images)

    def _run(self, request: LegRequest, variant: CpuVariant = _PLAIN) -> LegResult:
        asked = request, variant
        if asked in self._kept:
            self._kept.move_to_end(asked)
            return self._kept[asked]
        result = self._through_cache(
            request,
            lambda: keys.leg_key(request, variant),
            lambda: self._fresh(request, variant),
            forms.LEG,
        )
        self._kept[asked] = result
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return result

    def _through_cache(
        self,
        request: LegRequest,
        make_key: Callable[[], Key],
        compute: Callable[[], _Answer],
        form: Form[_Answer],
    ) -> _Answer:
        """An answer from the cache, else computed by one process and kept.

        A share of those that others wrote is computed again.  Raises CaseProblem (error_harness)
        when that gives another: the same key promises the same.
        """
        key = held_models.key_or_none(make_key) if self._cache is not None else None
        if self._cache is None or key is None:
            return compute()
        stored = self._cache.get(key)
        if stored is None:
            with self._cache.making(key):
                stored = self._cache.get(key)
                if stored is None:
                    answer = compute()
                    entry = form.entry(answer)
                    # The key again: files that changed meanwhile make this another model's answer.
                    if entry is not None and held_models.key_or_none(make_key) == key:
                        about = {
                            "model": request.model.name,
                            "inputs": request.inputs.description,
                        }
                        arrays, facts = entry
                        self._cache.put(key, arrays, {**about, **facts})
                    return answer
        answer = form.restored(stored)
        if not self._cache.doubts(stored, key["kind"]):
            return answer
        fresh = compute()
        if not form.same(fresh, answer):
            raise false(stored, request.model.name)
        return fresh


def _form(gelu: str) -> CpuVariant:
    return CpuVariant(imitate=Arithmetic(gelu=gelu)) if gelu else _PLAIN
