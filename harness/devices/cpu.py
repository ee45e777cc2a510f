"""The CPU: the reference side."""

from __future__ import annotations

import torch

from harness.devices.device import WithoutFaults
from harness.devices.spec import DeviceSpec
from harness.records.leg import DeviceInfo
from harness.system import process, processor
from harness.system.messages import say
from harness.system.status import CaseProblem, Stage, Status


class CpuDevice(WithoutFaults):
    """Runs a leg on the host with ATen's own kernels."""

    def __init__(self) -> None:
        self.spec = DeviceSpec("cpu")
        self.torch_device = torch.device("cpu")

    def synchronize(self) -> None:
        """Do nothing: the CPU has no queue."""

    def describe(self) -> DeviceInfo:
        """Return the processor's name and the thread count."""
        return DeviceInfo(
            spec="cpu",
            kind="cpu",
            name=processor.name(),
            emulated=False,
            details={
                "threads": str(torch.get_num_threads()),
                "capability": torch.backends.cpu.get_cpu_capability(),
            },
        )

    def apply_numerics(self, profile: str) -> dict[str, str]:
        """The reference always computes in full precision, in either profile."""
        torch.set_float32_matmul_precision("highest")
        return {
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "mkldnn.enabled": str(torch.backends.mkldnn.enabled),
        }

    def threads(self) -> int | None:
        """PyTorch's threads for one operator."""
        return torch.get_num_threads()

    def event_pair(self) -> None:
        """The CPU has no queue and no events."""

    def reset_peak_memory(self) -> None:
        """Do nothing: its memory is the host's."""

    def peak_memory(self) -> None:
        """Its memory is the host's."""

    def fallback_operators(self, executed: list[str]) -> list[str]:
        """Nothing falls back from the CPU."""
        return []

    def explain(self, error: BaseException) -> CaseProblem | None:
        """Only running out of memory is the host's own error."""
        if process.exhausted(error):
            return CaseProblem(
                Status.ERROR_OOM,
                Stage.FORWARD,
                say(
                    "cpu.memory",
                    "The CPU ran out of the host's memory: end other programs, or use a smaller "
                    "batch.",
                ),
            )
        return None
