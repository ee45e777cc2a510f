"""The distinct operator calls of many models, with the models that make each: one file a dtype.

A file is gzip of JSON lines: what it was made of, then the signatures, then the models, each with
the places of its calls among the signatures (as differences, which compress well) and how often it
makes them, or with the reason why it could not be traced.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.qualification.calls import Level
from harness.qualification.signatures import call_id
from harness.system import environment, files
from harness.system.status import UsageProblem

_FORMAT = 1
SHIPPED = Path(__file__).parent
TRACED_DTYPE = "float32"  # of the shipped catalogue
TRACED = "operators-catalogue.gz"  # beside results, of models that no shipped catalogue holds
_WHAT_TO_DO = "make one with `python -m harness operators catalogue`"


@dataclasses.dataclass(frozen=True)
class Header:
    """What a catalogue was made of.

    `batch`: images of a forward pass; `level`: which calls a device gets; `versions`: of timm,
    torch and torch_npu; `derived`: the format that was traced in place of this one, "" for itself.
    """

    dtype: str
    batch: int
    level: Level
    versions: dict[str, str]
    derived: str = ""

    @classmethod
    def now(cls, dtype: str, batch: int, level: Level) -> Header:
        """With the versions that are installed."""
        names = ("timm", "torch", "torch_npu")
        return cls(dtype, batch, level, {name: environment.version(name) for name in names})

    @property
    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {"catalogue": _FORMAT, **dataclasses.asdict(self)}

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Header:
        """From JSON.  Raises KeyError, TypeError or ValueError for what is none."""
        if found["catalogue"] != _FORMAT:
            raise ValueError(f"format {found['catalogue']}")
        level = Level(tuple(found["level"]["whole"]), bool(found["level"]["dense_results"]))
        derived = str(found.get("derived", ""))
        return cls(
            str(found["dtype"]), int(found["batch"]), level, dict(found["versions"]), derived
        )


@dataclasses.dataclass(frozen=True)
class ModelCalls:
    """A model's calls: signature's text -> how often; or why it could not be traced."""

    name: str
    family: str
    calls: Mapping[str, int]
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """Signatures by id, and for each model the ids of its calls with their counts."""

    header: Header
    signatures: Mapping[str, str]
    models: Mapping[str, Mapping[str, int]]
    families: Mapping[str, str]
    untraced: Mapping[str, str]

    @functools.cached_property
    def models_of(self) -> Mapping[str, tuple[str, ...]]:
        """The reverse index: call's id -> names of the models that make it, sorted."""
        found: dict[str, list[str]] = {name: [] for name in self.signatures}
        for model in sorted(self.models):
            for name in self.models[model]:
                found[name].append(model)
        return {name: tuple(models) for name, models in found.items()}

    @property
    def total(self) -> int:
        """All calls of one forward pass of every model."""
        return sum(sum(counts.values()) for counts in self.models.values())

    def part(self, models: Iterable[str]) -> Catalogue:
        """Of these models alone; names that it lacks are left out."""
        kept = {name: self.models[name] for name in sorted(models) if name in self.models}
        needed = {call for counts in kept.values() for call in counts}
        return dataclasses.replace(
            self,
            signatures={name: text for name, text in self.signatures.items() if name in needed},
            models=kept,
            families={name: self.families[name] for name in kept},
            untraced={},
        )


def collect(header: Header, found: Iterable[ModelCalls]) -> Catalogue:
    """A catalogue of models, each with its calls."""
    signatures: dict[str, str] = {}
    models, families, untraced = {}, {}, {}
    for item in sorted(found, key=lambda item: item.name):
        if item.problem:
            untraced[item.name] = item.problem
            continue
        counts = {call_id(text): (text, count) for text, count in item.calls.items()}
        signatures.update((name, text) for name, (text, _) in counts.items())
        models[item.name] = {name: count for name, (_, count) in counts.items()}
        families[item.name] = item.family
    ordered = dict(sorted(signatures.items(), key=lambda pair: pair[1]))
    return Catalogue(header, ordered, models, families, untraced)


def default_path(dtype: str) -> Path:
    """Where the catalogue of the installed timm is shipped."""
    return SHIPPED / f"timm-{environment.version('timm')}-{dtype}.gz"


def write(catalogue: Catalogue, path: Path) -> None:
    """Write a catalogue in one step, the same bytes for the same calls."""
    place = {name: number for number, name in enumerate(catalogue.signatures)}
    lines: list[Any] = [catalogue.header.plain, list(catalogue.signatures.values())]
    for name, counts in catalogue.models.items():
        places = sorted((place[call], count) for call, count in counts.items())
        at = [number for number, _ in places]
        steps = [b - a for a, b in zip([0, *at], at, strict=False)]
        lines.append([name, catalogue.families[name], steps, [count for _, count in places]])
    lines += [[name, problem] for name, problem in catalogue.untraced.items()]
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    with files.replacing(path) as part:
        part.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def read(path: Path) -> Catalogue:
    """Read a catalogue.  Raises UsageProblem for what is none."""
    try:
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
        header = Header.of(json.loads(lines[0]))
        texts = json.loads(lines[1])
        ids = [call_id(text) for text in texts]
        models, families, untraced = {}, {}, {}
        for line in lines[2:]:
            name, second, *more = json.loads(line)
            if not more:
                untraced[name] = second
                continue
            families[name] = second
            at, counts = 0, {}
            for step, count in zip(*more, strict=True):
                at += step
                counts[ids[at]] = count
            models[name] = counts
    except OSError as error:
        raise UsageProblem(
            f"Catalogue {path} cannot be read ({error.strerror or error}): {_WHAT_TO_DO}."
        ) from error
    except (EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UsageProblem(
            f"{path} is no catalogue of operator calls, or a torn one: {_WHAT_TO_DO}."
        ) from error
    return Catalogue(header, dict(zip(ids, texts, strict=True)), models, families, untraced)


def in_format(whole: Catalogue, dtype: str) -> Catalogue:
    """The calls of a catalogue as models in another format make them, where they cast nothing.

    Models that keep parts of their arithmetic in float32 make other calls there: they have to be
    traced (`docs/operators.md` counts them).
    """
    old, new = (f"%{name}" for name in (whole.header.dtype, dtype))
    texts = {name: text.replace(old, new) for name, text in whole.signatures.items()}
    ids = {name: call_id(text) for name, text in texts.items()}
    return dataclasses.replace(
        whole,
        header=dataclasses.replace(whole.header, dtype=dtype, derived=whole.header.dtype),
        signatures={ids[name]: text for name, text in texts.items()},
        models={
            model: {ids[name]: count for name, count in counts.items()}
            for model, counts in whole.models.items()
        },
    )


def for_installed(path: Path | None, dtype: str) -> Catalogue:
    """The catalogue at `path`, or the shipped one, for the installed timm and a dtype.

    Formats without a shipped one get float32's calls in their own (`in_format`).  Raises
    UsageProblem where there is none, or it is of another timm or dtype.
    """
    where = path or default_path(dtype)
    if path is None and dtype != TRACED_DTYPE and not where.exists():
        return in_format(for_installed(None, TRACED_DTYPE), dtype)
    if path is None and not where.exists():
        raise UsageProblem(
            f"No catalogue of timm {environment.version('timm')} in {dtype} is shipped: "
            f"{_WHAT_TO_DO} --all --dtype {dtype} --output FILE, and give --catalogue FILE."
        )
    found = read(where)
    made, here = found.header.versions.get("timm"), environment.version("timm")
    if made != here:
        raise UsageProblem(
            f"Catalogue {where} is of timm {made}, and timm {here} is installed: {_WHAT_TO_DO} of "
            "this timm, or install that one."
        )
    if found.header.dtype != dtype:
        raise UsageProblem(
            f"Catalogue {where} holds calls in {found.header.dtype}, not {dtype}: give --dtype "
            f"{found.header.dtype}, or {_WHAT_TO_DO} --dtype {dtype}."
        )
    return found


def choose(
    catalogue: Catalogue, families: Sequence[str] = (), models: Sequence[str] = ()
) -> Catalogue:
    """The part of these families and models; all of it for none.

    Raises UsageProblem for a name that it does not hold, with the reason where it could not be
    traced.
    """
    if not families and not models:
        return catalogue
    known = set(catalogue.families.values())
    for family in families:
        if family not in known:
            raise UsageProblem(f"The catalogue has no family {family!r}: it has {_some(known)}.")
    for name in models:
        if name in catalogue.untraced:
            raise UsageProblem(f"{name} could not be traced: {catalogue.untraced[name]}.")
        if name not in catalogue.models:
            raise UsageProblem(f"The catalogue has no model {name!r}: {_near(name, catalogue)}.")
    chosen = {name for name, family in catalogue.families.items() if family in set(families)}
    return catalogue.part({*chosen, *models})


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:12]) + (f" and {len(ordered) - 12} more" if ordered[12:] else "")


def _near(name: str, catalogue: Catalogue) -> str:
    from harness.system import suggestions

    near = suggestions.near(name, list(catalogue.models))
    return f"did you mean {near}?" if near else "give one of timm.list_models()"
