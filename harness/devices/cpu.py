"""The CPU: the reference side."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from harness.devices import DeviceSpec
from harness.devices.base import WithoutFaults
from harness.records import DeviceInfo
from harness.status import CaseProblem, Stage, Status


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
            name=_cpu_name(),
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

    def fallback_operators(self, executed: list[str]) -> list[str]:
        """Nothing falls back from the CPU."""
        return []

    def explain(self, error: BaseException) -> CaseProblem | None:
        """Only running out of memory is the host's own error."""
        if isinstance(error, MemoryError) or "not enough memory" in str(error):
            return CaseProblem(
                Status.ERROR_OOM, Stage.FORWARD, "The host ran out of memory: use a smaller batch."
            )
        return None


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
