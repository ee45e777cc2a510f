"""Case files (TOML) and the selection of cases from the command line.

A case file holds `[[case]]` entries.  Each names one model (`sample`, `architecture` or
`directory`, the last relative to the file) and lists of inputs, dtypes and numerics profiles;
the entry stands for every combination.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import pydantic

from harness.cases import architectures, precision_plans
from harness.cases.case import (
    MOST_IMAGES,
    TIERS,
    Case,
    InputKind,
    InputSource,
    ModelSource,
)
from harness.cases.models import directory, sample
from harness.system import foreign, suggestions, toml
from harness.system.status import UsageProblem

_SEED = 2**63 - 1  # torch's generators take no more


class _Entry(pydantic.BaseModel):
    """One `[[case]]` of a case file."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)
    sample: str | None = None
    architecture: str | None = None
    directory: str | None = None
    num_classes: int | None = pydantic.Field(None, ge=0, le=10**6)
    weights_seed: int = pydantic.Field(0, ge=0, le=_SEED)
    allow_keys: list[str] = []
    allow_pickle: bool = False
    inputs: list[Literal["synthetic", "noise", "photos"]] = ["synthetic"]
    images: str | None = None
    input_seed: int = pydantic.Field(0, ge=0, le=_SEED)
    count: int = pydantic.Field(6, ge=1, le=MOST_IMAGES)
    dtype: list[
        Literal["float32", "float16", "bfloat16", "autocast-float16", "autocast-bfloat16"]
    ] = ["float32"]
    numerics: list[Literal["default", "strict"]] = ["default", "strict"]
    batch_size: int = pydantic.Field(8, ge=1, le=MOST_IMAGES)
    tier: Literal["smoke", "core", "full"] = "core"
    throughput: list[Annotated[int, pydantic.Field(ge=1)]] | None = None
    plan: str | None = None

    @pydantic.model_validator(mode="after")
    def _one_model(self) -> _Entry:
        given = [n for n in ("sample", "architecture", "directory") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError("name exactly one of sample, architecture, directory")
        return self

    def cases(self, folder: Path) -> list[Case]:
        """Every combination that the entry stands for; paths are relative to `folder`."""
        if self.directory is not None:
            model = ("directory", str(folder / self.directory))
        elif self.architecture is not None:
            model = ("architecture", self.architecture)
        else:
            model = ("sample", str(self.sample))
        source = ModelSource(
            kind=model[0],  # type: ignore[arg-type]
            ref=model[1],
            num_classes=self.num_classes,
            seed=self.weights_seed,
            allow_keys=tuple(self.allow_keys),
            allow_pickle=self.allow_pickle,
        )
        sources = [
            InputSource(kind, count=self.count, seed=self.input_seed) for kind in self.inputs
        ]
        if self.images is not None:
            sources = [InputSource("images", path=str(folder / self.images))]
        throughput = tuple(self.throughput) if self.throughput is not None else None
        plan = None if self.plan is None else str(folder / self.plan)
        return [
            Case(source, images, dtype, self.batch_size, numerics, self.tier, throughput, plan)
            for images, dtype, numerics in itertools.product(sources, self.dtype, self.numerics)
        ]


def read(path: Path) -> list[Case]:
    """Read a case file.

    Raises UsageProblem, naming file, place and what is wrong, for a file that cannot be read, is
    not TOML, holds no case, an unknown key or a bad value.
    """
    try:
        document = toml.loads(foreign.read_text(path))
    except OSError as error:
        raise UsageProblem(f"Case file {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UsageProblem(f"Case file {path} is not valid TOML: {error}.") from error
    entries = document.pop("case", [])
    if document or not isinstance(entries, list):
        raise UsageProblem(
            f"Case file {path}: only [[case]] entries are known, "
            f"not {', '.join(document) or 'case'}."
        )
    if not entries:
        raise UsageProblem(f"Case file {path} holds no [[case]]: docs/adding-a-model.md shows one.")
    found: list[Case] = []
    for number, raw in enumerate(entries, start=1):
        try:
            entry = _Entry.model_validate(raw)
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "entry"
            message = first["msg"].removeprefix("Value error, ")
            if first["type"] == "extra_forbidden":
                known = sorted(_Entry.model_fields)
                near = suggestions.near(where, known, 1)
                message = "it is no key of a case" + (f": did you mean {near}?" if near else ".")
                message += f" Known are {', '.join(known)}"
            raise UsageProblem(f"Case file {path}, case {number}, {where}: {message}.") from error
        found += entry.cases(path.parent)
    return found


@dataclasses.dataclass(frozen=True)
class Selection:
    """Which cases to run, and what the command line overrides in all of them."""

    models: tuple[str, ...] = ()
    families: tuple[str, ...] = ()  # globs over timm's modules
    tier: str = "core"
    dtype: str | None = None
    numerics: str | None = None
    batch_size: int | None = None
    seed: int | None = None
    images: str | None = None
    throughput: tuple[int, ...] | None = None
    allow_pickle: bool = False


def select(cases: Sequence[Case], selection: Selection) -> list[Case]:
    """Apply a selection; the order of `cases` is kept and equal cases are merged.

    Raises UsageProblem when a --model, a --family or a selected case names nothing, or when two
    cases that differ would share an id.
    """
    if selection.models or selection.families:
        chosen = [case for pattern in selection.models for case in _of_model(cases, pattern)]
        chosen += [case for pattern in selection.families for case in _of_family(pattern)]
    else:
        allowed = TIERS[: TIERS.index(selection.tier) + 1]
        chosen = [case for case in cases if case.tier in allowed]
    unique: dict[str, Case] = {}
    for case in (_override(case, selection) for case in chosen):
        other = unique.setdefault(case.id, case)
        if dataclasses.replace(other, tier=case.tier) != case:
            refs = (other.model.ref, case.model.ref)
            same = len({os.path.realpath(ref) for ref in refs}) == 1 and refs[0] != refs[1]
            remedy = "both are one directory, write it the same way" if same else ""
            raise UsageProblem(
                f"Two different cases share the id {case.id!r} ({' and '.join(refs)}): "
                f"{remedy or 'rename one of the model directories'}."
            )
    for model in {case.model: None for case in unique.values()}:
        _check_model(model)
    for inputs in {case.inputs: None for case in unique.values()}:
        if inputs.path is not None and not os.path.exists(inputs.path):
            raise UsageProblem(f"Image path {inputs.path} does not exist: check the path.")
    for case in unique.values():
        if case.plan is not None:
            _check_plan(case, Path(case.plan))
    return list(unique.values())


def _check_plan(case: Case, path: Path) -> None:
    """Raise UsageProblem for a plan that cannot be read, or is for another arithmetic."""
    dtype = precision_plans.read(path).dtype
    if case.dtype != dtype:
        raise UsageProblem(
            f"The plan {path} is for {dtype}, the case {case.id} runs in {case.dtype}: give "
            f'dtype = ["{dtype}"] beside it.'
        )
    if dtype == "float32" and case.numerics != "default":
        raise UsageProblem(
            f"The plan {path} says which modules run without HF32, and the case {case.id} has none "
            'of it: give numerics = ["default"] beside it.'
        )


def _check_model(model: ModelSource) -> None:
    """Raise UsageProblem for a model that is not there, whichever way it was named."""
    if model.kind == "directory":
        directory.check_there(Path(model.ref))
    elif model.kind == "architecture":
        name = model.ref.partition(".")[0]  # without a tag of timm
        if not architectures.is_known(name):
            if directory.is_hub_name(model.ref):
                directory.check_there(Path(model.ref))
            near = suggestions.near(name, architectures.names())
            hint = f" Did you mean {near}?" if near else ""
            raise UsageProblem(f"timm has no architecture {model.ref!r}.{hint}")
    elif model.ref != sample.SAMPLE_NAME:
        raise UsageProblem(f"No sample model {model.ref!r}: the known one is {sample.SAMPLE_NAME}.")


def _override(case: Case, selection: Selection) -> Case:
    model, inputs = case.model, case.inputs
    if selection.images is not None:
        inputs = InputSource("images", path=selection.images)
    if selection.allow_pickle and model.kind == "directory":
        model = dataclasses.replace(model, allow_pickle=True)
    if selection.seed is not None:
        if model.kind == "architecture":
            model = dataclasses.replace(model, seed=selection.seed)
        if inputs.kind in ("synthetic", "noise"):
            inputs = dataclasses.replace(inputs, seed=selection.seed)
    return dataclasses.replace(
        case,
        model=model,
        inputs=inputs,
        dtype=selection.dtype or case.dtype,
        numerics=selection.numerics or case.numerics,
        batch_size=selection.batch_size or case.batch_size,
        throughput=selection.throughput or case.throughput,
    )


def _of_model(cases: Sequence[Case], pattern: str) -> list[Case]:
    """Cases of the models that a --model names: a directory, or a glob over names."""
    if not pattern:
        raise UsageProblem("--model is empty: give an architecture or a timm model directory.")
    path = Path(pattern)
    named = path.is_absolute() or pattern.startswith((".", "~")) or "/" in pattern
    if os.path.exists(path) or named or directory.is_hub_name(pattern):
        directory.check_there(path)
        return _both_profiles(ModelSource("directory", str(path)), ("photos", "synthetic"))
    found = [case for case in cases if fnmatch.fnmatch(case.model.name, pattern)]
    return found or [
        case
        for name in _architectures(pattern, cases)
        for case in _both_profiles(ModelSource("architecture", name), ("synthetic",))
    ]


def _both_profiles(model: ModelSource, inputs: Iterable[InputKind]) -> list[Case]:
    return [
        Case(model, InputSource(kind), numerics=numerics)
        for kind in inputs
        for numerics in ("default", "strict")
    ]


def _of_family(pattern: str) -> list[Case]:
    families = architectures.families()
    found = [name for name, family in families.items() if fnmatch.fnmatch(family, pattern)]
    if not found:
        near = suggestions.near(pattern, sorted(set(families.values())))
        hint = f" Did you mean {near}?" if near else ""
        raise UsageProblem(f"--family {pattern} matches no family (module) of timm.{hint}")
    return [
        case
        for name in found
        for case in _both_profiles(ModelSource("architecture", name), ("synthetic",))
    ]


def _architectures(pattern: str, cases: Sequence[Case]) -> list[str]:
    """Names of timm architectures that match; asked for only when no case file knows one."""
    names = architectures.names()
    found = [name for name in names if fnmatch.fnmatch(name, pattern)]
    if not found:
        near = suggestions.near(pattern, [*names, *(c.model.name for c in cases)])
        hint = f" Did you mean {near}?" if near else ""
        raise UsageProblem(
            f"--model {pattern} matches no case, no directory and no timm architecture.{hint}"
        )
    return found
