"""The protocol that every device fulfils."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Protocol, cast

from harness.system.status import UsageProblem

if TYPE_CHECKING:
    import torch
    from torch import nn

    from harness.devices.spec import DeviceSpec
    from harness.records.leg import DeviceInfo
    from harness.system.status import CaseProblem


@dataclasses.dataclass(frozen=True)
class Counters:
    """What a device counted since `Device.plant`; empty where it keeps no count.

    `operators`: operator of the device's own library ("Convolution") -> calls, in the order of
    first use; `fault_effects`: how often each fault of the plan had an effect, in its order.
    """

    operators: dict[str, int] = dataclasses.field(default_factory=dict)
    fault_effects: tuple[int, ...] = ()


class TimingEvent(Protocol):
    """An event of torch.npu or torch.cuda."""

    def record(self) -> None:
        """Note the time when the device comes to this point of its queue."""

    def elapsed_time(self, end_event: Any) -> float:
        """Milliseconds until another event; both must have happened."""


class Device(Protocol):
    """A place where a leg runs."""

    spec: DeviceSpec
    torch_device: torch.device

    def synchronize(self) -> None:
        """Wait until all work on the device is done; device errors surface here."""

    def describe(self) -> DeviceInfo:
        """Name, uuid, memory and versions of the device."""

    def apply_numerics(self, profile: str) -> dict[str, str]:
        """Set a numerics profile ("default" or "strict") and return the settings read back.

        "default" is what the framework came with, whatever an earlier case set.  Raises
        CaseProblem when a setting does not take.
        """

    def plant(self, fault_plan: str | None) -> None:
        """Put planned faults (JSON; None: none) into force and start their counts anew.

        The emulated NPU can do it, and the CPU with hooks; others raise UsageProblem for a plan.
        """

    def watching(self, model: nn.Module) -> contextlib.AbstractContextManager[None]:
        """Know inside which module runs in a model's forward passes, for faults that name one.

        `model`: whose forward passes lead, here or on the host; entered after `plant`.
        """

    def rehearsal(self) -> contextlib.AbstractContextManager[None]:
        """What runs inside does not count as calls of planned faults: they are yet to come."""

    def counters(self) -> Counters:
        """Operators started and effects of planned faults since `plant`."""

    def place(
        self, model: nn.Module, dtype: torch.dtype, promoted: Collection[str] = ()
    ) -> nn.Module:
        """Bring a model, float32 on the host and the device's to change, here in a dtype.

        `promoted`: modules that stay in float32.
        """

    def place_batch(self, images: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Bring images [N, 3, H, W], float32 on the host, here in a dtype."""

    def around_forward(self) -> contextlib.AbstractContextManager[Any]:
        """What has to be in force while a forward pass runs."""

    def operator(self, func: Any) -> Callable[..., Any]:
        """What runs an aten operator here, on arguments on `torch_device`."""

    def threads(self) -> int | None:
        """Threads that compute a forward pass; None where it is not the host that computes."""

    def event_pair(self) -> tuple[TimingEvent, TimingEvent] | None:
        """Two events on the device's own clock; None where it has none."""

    def release(self) -> None:
        """Give back memory that nothing uses: its allocator keeps what models have freed."""

    def reset_peak_memory(self) -> None:
        """Count peak memory anew."""

    def peak_memory(self) -> tuple[int, int] | None:
        """Peaks since then in bytes: allocated for tensors, and taken from the device for them.

        None where the device's memory is the host's.
        """

    def fallback_operators(self, executed: list[str]) -> list[str]:
        """Which of the executed aten operators have no kernel on this device (ran on the CPU)."""

    def explain(self, error: BaseException) -> CaseProblem | None:
        """Turn an error that this device raises into a status; None if it is not its own."""


def refuse_faults(spec: DeviceSpec, fault_plan: str | None) -> None:
    """Raise UsageProblem when faults are planned for a device that cannot plant them."""
    if fault_plan is not None:
        raise UsageProblem(
            f"A fault plan works on the emulated NPU only, not on {spec}: add --device "
            "npu-emulated."
        )


class Plain:
    """The part of a device that takes models and images as they are."""

    torch_device: torch.device

    def place(
        self, model: nn.Module, dtype: torch.dtype, promoted: Collection[str] = ()
    ) -> nn.Module:
        """To the dtype first: the host's rounding is the same for every device."""
        from harness.cases.models import promotion  # brings torch in

        return promotion.promote(model, dtype, promoted).to(self.torch_device).eval()

    def place_batch(self, images: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """To the dtype first, as a model."""
        return images.to(dtype).to(self.torch_device)

    def around_forward(self) -> contextlib.AbstractContextManager[Any]:
        """Nothing has to be in force."""
        return contextlib.nullcontext()

    def release(self) -> None:
        """Nothing is kept."""

    def watching(self, model: nn.Module) -> contextlib.AbstractContextManager[None]:
        """No fault asks for it."""
        return contextlib.nullcontext()

    def operator(self, func: Any) -> Callable[..., Any]:
        """The operator itself: PyTorch dispatches it by where its arguments are."""
        return cast("Callable[..., Any]", func)

    def threads(self) -> int | None:
        """The host does not compute here."""
        return None


class WithoutFaults(Plain):
    """The part of a device that plants no faults and counts nothing."""

    spec: DeviceSpec

    def plant(self, fault_plan: str | None) -> None:
        """Refuse: faults are planted in the emulated NPU only."""
        refuse_faults(self.spec, fault_plan)

    def rehearsal(self) -> contextlib.AbstractContextManager[None]:
        """No faults are planned here."""
        return contextlib.nullcontext()

    def counters(self) -> Counters:
        """Nothing is counted here."""
        return Counters()
