"""What one side of a case is and did: its device, its times, its memory."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Annotated

import pydantic

from harness.cases.models.model_facts import ModelFacts
from harness.cases.models.operator_ranges import OperatorRange
from harness.system.host_use import HostUse


@dataclasses.dataclass(frozen=True)
class MemoryUse:
    """Peak memory in bytes; None where it is not known.

    `host_before`: resident when the work began.  `host_since_start`: the peak could not be reset,
    so it is the process' since it began.  `device_peak`: allocated for tensors; `device_reserved`:
    taken from the device by PyTorch's allocator.
    """

    host_peak: int | None
    host_before: int | None
    host_since_start: bool
    device_peak: int | None = None
    device_reserved: int | None = None


class DeviceInfo(pydantic.BaseModel):
    """One side of the comparison."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")
    spec: str  # as given: "npu:0", "cpu", ...
    kind: str
    name: str  # marketing name as the driver gives it
    emulated: bool
    index: int = 0
    uuid: str | None = None
    total_memory_bytes: int | None = None
    details: dict[str, str] = {}

    @property
    def shown(self) -> str:
        """The name; of an emulated device also that it is, and the kernels it computes with."""
        kernels = self.details.get("emulated_kernels")
        known = f", kernels {kernels}" if kernels else ""
        return f"{self.name} EMULATED{known}" if self.emulated else self.name


class Timing(pydantic.BaseModel):
    """Seconds of each timed forward of one leg, synchronised, after one warm-up.

    `cached_since`: read from the reference cache, measured at that time; None: in this run.
    `host_use`: what others had of the host during the timed forwards, of the CPU side.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
    batch_size: Annotated[int, pydantic.Field(gt=0)]
    images: Annotated[int, pydantic.Field(gt=0)]
    forward_seconds: list[Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]]
    first_forward_seconds: float
    threads: int | None = None  # of the CPU side
    cached_since: datetime.datetime | None = None
    host_use: HostUse | None = None

    @property
    def busy(self) -> bool:
        """Whether other work had so much of the host that these are no times of it."""
        return self.host_use is not None and self.host_use.busy

    @property
    def cached(self) -> bool:
        """Whether this was measured in an earlier run, perhaps on another host."""
        return self.cached_since is not None

    @property
    def images_per_second(self) -> float:
        """Images through the model per second, from the median forward."""
        ordered = sorted(self.forward_seconds)
        return self.images / ordered[len(ordered) // 2]


class LegRecord(pydantic.BaseModel):
    """What one leg did, without its outputs."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
    device: DeviceInfo
    numerics: dict[str, str]  # settings as read back from the device
    timing: Timing
    operators: dict[str, int]  # aten operator -> calls in one pass over the images
    fallback_operators: list[str]  # ran on the CPU though the model was on the device
    weights_sha256: str
    ranges: list[OperatorRange] = []  # what nonlinear operators got; of the CPU's reference alone
    model: ModelFacts | None = None  # None: a module of the user's own, or a record from before
    memory: MemoryUse | None = None  # loading and all forwards, without operators one by one
