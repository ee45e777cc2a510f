"""The CPU's answers: in the case's dtype, in float64, and rounded as the device declares.

They do not depend on the device, so cases that differ only in the device's settings share them,
and runs on other devices, versions of torch_npu and hosts find them in the reference cache.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter

from harness.cases.case import InputSource, ModelSource
from harness.cases.inputs import InputSet
from harness.cases.models.model_files import ModelFiles
from harness.cases.precision_plans import PrecisionPlan
from harness.devices.device import Counters
from harness.execution import legs, shares
from harness.execution.cpu_variants import CpuVariant, VariantCpu
from harness.execution.legs import LegRequest, LegResult
from harness.execution.own_module import OwnModule
from harness.execution.reference import held_models, keys, pictures
from harness.execution.reference.answers import Answers
from harness.execution.reference.cache import ReferenceCache, false
from harness.execution.reference.entries import Stored
from harness.execution.reference.held_models import HeldModels
from harness.execution.reference.keys import Key
from harness.judgement.arithmetic import Arithmetic
from harness.judgement.budget import Budget
from harness.judgement.metrics import Array, count_nonfinite
from harness.judgement.shares import Shares
from harness.records.leg import LegRecord
from harness.system.files import default_cache_dir
from harness.system.messages import Said, say
from harness.system.status import CaseProblem, Stage, Status, UsageProblem

# Cases that share answers follow each other: a default and a strict one need five legs.
_KEPT = 8

_PLAIN = CpuVariant()
_SHARES = TypeAdapter(Shares)


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

        def make_key() -> Key:
            return keys.shares_key(request, arithmetic, names, directions)

        def measured() -> Shares:
            return self._shares(request, arithmetic, names, directions, most_weights)

        key = held_models.key_or_none(make_key) if self._cache is not None else None
        if self._cache is None or key is None:
            return measured()
        stored = self._cache.get(key)
        if stored is not None:
            found = _SHARES.validate_python(stored.facts["shares"])
            if self._cache.doubts(stored, "shares") and not _same_shares(measured(), found):
                raise false(stored, request.model.name)
            return found
        found = measured()
        facts = _SHARES.dump_python(found, mode="json")
        # Numbers that are none do not come back, and are not kept.
        if _SHARES.validate_python(facts) == found and held_models.key_or_none(make_key) == key:
            about = {"model": request.model.name, "inputs": request.inputs.description}
            self._cache.put(key, {}, {**about, "shares": facts})
        return found

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
        result = self._through_cache(request, variant)
        self._kept[asked] = result
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return result

    def _through_cache(self, request: LegRequest, variant: CpuVariant) -> LegResult:
        def make_key() -> Key:
            return keys.leg_key(request, variant)

        key = held_models.key_or_none(make_key) if self._cache is not None else None
        if self._cache is None or key is None:
            return self._fresh(request, variant)
        stored = self._cache.get(key)
        if stored is not None:
            return self._believed(stored, request, variant)
        with self._cache.making(key):
            stored = self._cache.get(key)
            if stored is not None:
                return self._believed(stored, request, variant)
            result = self._fresh(request, variant)
            facts = _facts(result)
            # The key again: files that changed meanwhile make this another model's answer.
            if facts is not None and held_models.key_or_none(make_key) == key:
                about = {
                    "model": request.model.name,
                    "inputs": request.inputs.description,
                }
                self._cache.put(key, result.outputs, {**about, "result": facts})
        return result

    def _believed(self, stored: Stored, request: LegRequest, variant: CpuVariant) -> LegResult:
        """A stored leg; a share of those that others wrote is computed again.

        Raises CaseProblem (error_harness) when that gives other outputs: the same key promises
        the same bits.
        """
        assert self._cache is not None
        result = _restored(stored)
        if not self._cache.doubts(stored, "leg"):
            return result
        fresh = self._fresh(request, variant)
        if not _same_outputs(fresh.outputs, result.outputs):
            raise false(stored, request.model.name)
        return fresh


def _same_outputs(ours: dict[str, Array], theirs: dict[str, Array]) -> bool:
    return ours.keys() == theirs.keys() and all(
        ours[name].dtype == theirs[name].dtype
        and ours[name].shape == theirs[name].shape
        and ours[name].tobytes() == theirs[name].tobytes()
        for name in ours
    )


def _same_shares(ours: Shares, theirs: Shares) -> bool:
    """Whether both are of the same roundings, and as good as equal: backward passes may vary."""
    named = [[(one.what, one.name, one.module) for one in each.points] for each in (ours, theirs)]
    least = 1e-6 * float(ours.squares.sum())
    return named[0] == named[1] and np.allclose(ours.squares, theirs.squares, 1e-3, least)


def _form(gelu: str) -> CpuVariant:
    return CpuVariant(imitate=Arithmetic(gelu=gelu)) if gelu else _PLAIN


def _facts(result: LegResult) -> dict[str, Any] | None:
    """A plain CPU leg without its outputs, as JSON; None for one that gave more than this holds."""
    facts = {
        "logits": result.logits,
        "unstable": list(result.unstable),
        "record": result.record.model_dump(mode="json"),
        "weights": result.weights,
    }
    whole = _from_facts(facts, {}) == dataclasses.replace(result, outputs={})
    return facts if whole else None


def _from_facts(facts: dict[str, Any], outputs: dict[str, Array]) -> LegResult:
    return LegResult(
        outputs=outputs,
        logits=facts["logits"],
        unstable=tuple(facts["unstable"]),
        record=LegRecord.model_validate(facts["record"]),
        weights=facts["weights"],
        counters=Counters(),
    )


def _restored(stored: Stored) -> LegResult:
    """A leg from the cache; its timing says when it was measured."""
    result = _from_facts(stored.facts["result"], stored.arrays)
    timing = result.record.timing.model_copy(update={"cached_since": stored.made})
    record = result.record.model_copy(update={"timing": timing})
    return dataclasses.replace(result, record=record)
