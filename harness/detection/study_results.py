"""What a study of faults found: rows, file, parts joined."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pydantic

from harness.records.sensitivity import FaultRow
from harness.system import foreign
from harness.system.status import Status, UsageProblem

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


def save(study: Study, path: Path) -> None:
    """Write a study as JSON; non-finite numbers cannot occur in it."""
    path.write_bytes(pydantic.TypeAdapter(Study).dump_json(study, indent=1) + b"\n")


def load(path: Path) -> Study:
    """Read what `save` wrote.  Raises UsageProblem for a file that is no study."""
    try:
        return pydantic.TypeAdapter(Study).validate_json(foreign.read_bytes(path))
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
