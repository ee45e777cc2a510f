"""The lines of a results file, as versioned models.  The source of truth of every report.

Non-finite numbers are the strings "NaN", "Infinity" and "-Infinity".
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from typing import Annotated, Literal

import pydantic

from harness.cases.case import Case
from harness.judgement.budget import OutputBudget
from harness.judgement.documented import DocumentedGate
from harness.judgement.localization import Localization
from harness.judgement.metrics import Discrimination
from harness.judgement.operator_rows import OperatorCheck
from harness.judgement.separation import Separation
from harness.judgement.shares import ErrorShares
from harness.judgement.timing import Ratio
from harness.judgement.verdict import OutputNumbers
from harness.records.expectation import Expectation
from harness.records.fingerprint import Fingerprint
from harness.records.leg import LegRecord
from harness.records.sensitivity import Sensitivity
from harness.records.throughput import Throughput
from harness.records.views import ImageView
from harness.system import environment, messages, shown
from harness.system.messages import Message, Said
from harness.system.status import Finding, Stage, Status

SCHEMA_VERSION = 2

# The digits and the dash keep Python and pytest from ever taking one for a module of theirs.
_REPRODUCER = re.compile(r"reproducers/(?!\.\.?/)[\w.+-]+/[0-9]{4,}-[A-Za-z0-9_-]+\.py")
_LOG_TAIL = 1 << 16  # characters; the harness keeps an eighth of it
# It names the history's file as well.
Device = Annotated[str, pydantic.Field(pattern=r"^[a-z][a-z0-9-]{0,30}(:\d{1,4})?$")]


class _Record(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", ser_json_inf_nan="strings", protected_namespaces=()
    )
    schema_version: Literal[2] = 2


class ShardInfo(pydantic.BaseModel):
    """Which part of a divided run this is.

    `whole`: ids of all cases of the undivided run; `plan`: a digest of how they were divided.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")
    number: int  # from 1
    of: int
    whole: list[str]
    plan: str


class RunRecord(_Record):
    """First line of a results file.

    `fingerprints`: of the cases, by id; `settings`: options that a result depends on; `parts`: ids
    of the earlier runs whose records this file holds as well; `arithmetic`: of the device, as it
    was measured before (`--fingerprint`).
    """

    type: Literal["run"] = "run"
    run_id: str
    started: datetime.datetime
    device: Device
    device_reason: str
    emulated: bool
    cases: list[str]
    environment: dict[str, str]
    fingerprints: dict[str, str] = {}
    settings: dict[str, str] = {}
    shard: ShardInfo | None = None
    parts: list[str] = []
    arithmetic: Fingerprint | None = None

    @pydantic.field_validator("environment")
    @classmethod
    def _masked(cls, found: dict[str, str]) -> dict[str, str]:
        """No credential of whoever made the record is carried on."""
        return {name: environment.masked(value) for name, value in found.items()}

    @property
    def device_kind(self) -> str:
        """The device without its index."""
        return self.device.partition(":")[0]


class UsedPlan(pydantic.BaseModel):
    """The precision plan that a case ran with.

    `sha256`: of what it does; `modules`: those in float32; `seconds`: of one pass where the plan
    was made, without it and with it, empty where that was not timed; `emulated`: there.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")
    file: str
    sha256: str
    modules: list[str]
    seconds: list[float] = []
    emulated: bool = False


class StartRecord(_Record):
    """A case begins: without its `case` line it was in flight when its process ended."""

    type: Literal["start"] = "start"
    case_id: str
    device: str = ""


class CaseRecord(_Record):
    """One case with its verdict."""

    type: Literal["case"] = "case"
    case_id: str
    case: Case
    status: Status
    attempts: list[Status] = []  # what every try gave, in order, where there were several
    rules: str = ""  # version of the rules that judged it; "" where none were applied, or older
    stage: Stage | None = None
    reason: str = ""
    findings: list[Finding] = []
    emulated: bool = False
    weights: str = ""
    weights_sha256: str = ""
    inputs: str = ""
    inputs_sha256: str = ""
    inputs_shape: list[int] = []  # [N, C, H, W]; empty when they were not prepared
    labels: list[str] = []
    views: list[ImageView] = []  # of the first images, those whose Top-1 differs before others
    reference: LegRecord | None = None
    candidate: LegRecord | None = None
    gate: DocumentedGate | None = None
    outputs: list[OutputNumbers] = []
    discrimination: Discrimination | None = None
    separation: Separation | None = None
    arithmetic: str = ""  # what the device declares and is judged against
    budgets: list[OutputBudget] = []
    operators: OperatorCheck | None = None  # compared one by one, where that was asked for
    localization: Localization | None = None  # where it goes wrong, where that was asked for
    notes: list[str] = []  # what was seen and is no reason against the case
    note_messages: list[list[Message]] = []  # of each note; [] in a record from before
    sensitivity: Sensitivity | None = None  # only where it was asked for
    duration_seconds: float = 0.0
    log_tail: str = ""  # what the process that failed printed last
    throughput: Throughput | None = None  # only where it was asked for; never part of the verdict
    expected: Expectation | None = None  # beside its expected row, where it was compared
    plan: UsedPlan | None = None  # modules in float32 in a short dtype
    shares: ErrorShares | None = None  # who caused the error, in a reduced format

    @pydantic.field_validator("log_tail")
    @classmethod
    def _plain(cls, text: str) -> str:
        """What a process of others printed: no credential, no home, nothing a terminal obeys."""
        return environment.redacted(shown.lines(text[-_LOG_TAIL:]))

    @pydantic.field_validator("localization")
    @classmethod
    def _own_names(cls, found: Localization | None) -> Localization | None:
        """Reproducers have the names that the harness gives: data, never a way to another place."""
        for name in found.reproducers if found is not None else ():
            if _REPRODUCER.fullmatch(name) is None:
                raise ValueError(
                    f"{name!r} is no name of a reproducer (reproducers/CASE/NUMBER-OPERATOR.py)"
                )
        return found

    @property
    def reason_messages(self) -> tuple[Message, ...]:
        """What `reason` says, by id; without any in a record from before there were ids."""
        said = (one.messages for one in self.findings if one.reason == self.reason)
        return next(said, ()) or messages.of(self.reason)

    @property
    def said_notes(self) -> list[Said]:
        """The notes with their messages; without any in a record from before there were ids."""
        kept = self.note_messages or [[*messages.of(note)] for note in self.notes]
        return [Said(note, found) for note, found in zip(self.notes, kept, strict=False)]

    def with_notes(self, notes: Iterable[str]) -> CaseRecord:
        """The record with these notes instead."""
        said = [messages.said(note) for note in notes]
        return self.model_copy(
            update={
                "notes": [*map(str.__str__, said)],
                "note_messages": [[*note.messages] for note in said],
            }
        )

    @property
    def files(self) -> tuple[str, ...]:
        """Files that belong to the record, relative to its results: scripts and their tensors."""
        scripts = self.localization.reproducers if self.localization is not None else ()
        tensors = (f"{name.removesuffix('.py')}.safetensors" for name in scripts)
        return (*scripts, *tensors)

    @property
    def contested(self) -> bool:
        """Whether tries of the case came to different verdicts."""
        return len({status for status in self.attempts if not status.is_error}) > 1

    @property
    def budget_ratio(self) -> float | None:
        """The greatest budget ratio over outputs and images; None when not measured."""
        return max((row.worst_ratio for row in self.budgets), default=None)

    @property
    def speed_ratio(self) -> float | None:
        """Device throughput over the CPU's; None when not timed, or no measure of a device.

        Nor where the CPU was timed in an earlier run, or beside other work of the host.
        """
        sides = self.reference, self.candidate
        if self.emulated or any(leg is None or not leg.timing.forward_seconds for leg in sides):
            return None
        assert self.reference is not None and self.candidate is not None
        cpu, device = self.reference.timing, self.candidate.timing
        if cpu.cached or cpu.busy:
            return None
        return device.images_per_second / cpu.images_per_second

    @property
    def fair_speed_up(self) -> Ratio | None:
        """Speed-up over the CPU at its best setting, at the case's batch size; None as above."""
        if self.emulated or self.throughput is None:
            return None
        return self.throughput.speed_up(self.case.batch_size)


class EndRecord(_Record):
    """Last line: its absence means that the run was cut short."""

    type: Literal["end"] = "end"
    exit_code: int
    finished: datetime.datetime


AnyRecord = RunRecord | StartRecord | CaseRecord | EndRecord
ADAPTER: pydantic.TypeAdapter[AnyRecord] = pydantic.TypeAdapter(
    Annotated[AnyRecord, pydantic.Field(discriminator="type")]
)
