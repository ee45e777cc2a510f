"""The protocol that every device fulfils."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

    from harness.devices import DeviceSpec
    from harness.records import DeviceInfo
    from harness.status import CaseProblem


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

    def fallback_operators(self, executed: list[str]) -> list[str]:
        """Which of the executed aten operators have no kernel on this device (ran on the CPU)."""

    def explain(self, error: BaseException) -> CaseProblem | None:
        """Turn an error that this device raises into a status; None if it is not its own."""
