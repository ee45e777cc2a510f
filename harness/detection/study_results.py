"""What a study found, of faults or of engines: rows, file, parts joined."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from harness.judgement.operator_rows import OperatorRow
from harness.records.sensitivity import FaultRow
from harness.system import foreign
from harness.system.status import Status, UsageProblem

SETTINGS = {
    "A": "plain random initialisation, noise images",
    "B": "real weights of EfficientNet-Lite0, noise images",
    "C": "real weights of EfficientNet-Lite0, photos",
    "D": "random weights made discriminating, structured images",
}


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
class EngineRow:
    """One model end to end in an engine, judged as a device.

    `engine`: name and version; `reason`: of the status, "" where it passes; `ratio`,
    `image_ratio`, `slice_ratio`: the greatest of all outputs; None where none was taken.
    """

    engine: str
    format: str
    model: str
    status: Status
    reason: str
    ratio: float | None
    image_ratio: float | None
    slice_ratio: float | None
    limit: float | None
    gate_passed: bool | None

    @property
    def accused(self) -> bool:
        """Whether the engine was failed; `inconclusive` accuses nobody."""
        return self.status not in (Status.PASS, Status.INCONCLUSIVE)


@dataclasses.dataclass(frozen=True)
class Kind:
    """All calls of one operator in one model.

    `ratio`, `slice_ratio`: the greatest, None where none was compared; `why`: of the first that
    was `skipped`.
    """

    operator: str
    compared: int
    culprits: int
    ratio: float | None
    slice_ratio: float | None
    skipped: int
    why: str


@dataclasses.dataclass(frozen=True)
class Operators:
    """One model's operators, each by itself in an engine."""

    engine: str
    format: str
    model: str
    kinds: tuple[Kind, ...]
    culprits: tuple[OperatorRow, ...]


@dataclasses.dataclass(frozen=True)
class EngineStudy:
    """Models in engines on one CPU; `date`: of its end, ISO."""

    __pydantic_config__ = pydantic.ConfigDict(ser_json_inf_nan="strings")

    processor: str
    date: str
    environment: dict[str, str]
    seconds: float
    rows: tuple[EngineRow, ...]
    operators: tuple[Operators, ...]
    problems: tuple[str, ...] = ()

    @property
    def accused(self) -> bool:
        """Whether any engine was failed, or any operator named a culprit."""
        return any(row.accused for row in self.rows) or any(
            found.culprits for found in self.operators
        )


Kept = TypeVar("Kept", Study, EngineStudy)


def save(study: Study | EngineStudy, path: Path) -> None:
    """Write a study as JSON."""
    adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(type(study))
    path.write_bytes(adapter.dump_json(study, indent=1) + b"\n")


def load(path: Path, kind: type[Kept]) -> Kept:
    """Read what `save` wrote.  Raises UsageProblem for a file that is no such study."""
    try:
        return pydantic.TypeAdapter(kind).validate_json(foreign.read_bytes(path))
    except (OSError, pydantic.ValidationError) as error:
        raise UsageProblem(f"{path} is no such study of this harness: {error}") from error


def join_engines(studies: Sequence[EngineStudy]) -> EngineStudy:
    """Studies of different models, engines or formats on one CPU, as one.

    Raises UsageProblem when they overlap or ran on different CPUs or versions.
    """
    first = studies[0]
    seen: set[tuple[str, str, str]] = set()
    for other in studies:
        if (other.processor, other.environment) != (first.processor, first.environment):
            raise UsageProblem("The studies ran on different CPUs or versions: run one anew.")
        rows: tuple[EngineRow | Operators, ...] = (*other.rows, *other.operators)
        own = {(row.engine, row.format, row.model) for row in rows}
        if seen & own:
            raise UsageProblem(f"Two of the studies hold {', '.join(sorted(seen & own)[0])}.")
        seen |= own
    return dataclasses.replace(
        first,
        date=max(other.date for other in studies),
        seconds=sum(other.seconds for other in studies),
        rows=tuple(row for other in studies for row in other.rows),
        operators=tuple(found for other in studies for found in other.operators),
        problems=tuple(text for other in studies for text in other.problems),
    )


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
