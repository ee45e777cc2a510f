"""CUDA GPUs: real silicon to try the harness on, and a second opinion on a model."""

from __future__ import annotations

import torch

from harness.devices import dispatcher
from harness.devices.device import TimingEvent, WithoutFaults
from harness.devices.spec import DeviceSpec
from harness.records.leg import DeviceInfo
from harness.system.messages import Said, say
from harness.system.status import CaseProblem, Stage, Status, UsageProblem


class CudaDevice(WithoutFaults):
    """A CUDA device through PyTorch; TF32 is its reduced arithmetic, as HF32 is the NPU's."""

    def __init__(self, spec: DeviceSpec) -> None:
        if not torch.cuda.is_available():
            built = f"this PyTorch ({torch.__version__}) was built for CUDA {torch.version.cuda}"
            raise UsageProblem(
                f"No CUDA device: {built} and finds no usable GPU. Install a CUDA build of "
                "PyTorch and check nvidia-smi, or choose another --device."
            )
        if spec.index >= torch.cuda.device_count():
            raise UsageProblem(
                f"No device {spec}: {torch.cuda.device_count()} CUDA device(s) are visible "
                "(CUDA_VISIBLE_DEVICES chooses them)."
            )
        self.spec = spec
        self.torch_device = torch.device("cuda", spec.index)
        torch.cuda.set_device(self.torch_device)
        self._defaults = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)

    def synchronize(self) -> None:
        """Wait for the device."""
        torch.cuda.synchronize(self.torch_device)

    def describe(self) -> DeviceInfo:
        """Return the card's name, uuid and memory."""
        properties = torch.cuda.get_device_properties(self.torch_device)
        return DeviceInfo(
            spec=str(self.spec),
            kind="cuda",
            name=properties.name,
            emulated=False,
            index=self.spec.index,
            uuid=str(properties.uuid),
            total_memory_bytes=properties.total_memory,
            details={
                "cuda": str(torch.version.cuda),
                "cudnn": str(torch.backends.cudnn.version()),
            },
        )

    def apply_numerics(self, profile: str) -> dict[str, str]:
        """Strict turns TF32 off for convolutions and matrix products."""
        matmul, cudnn = (False, False) if profile == "strict" else self._defaults
        torch.backends.cuda.matmul.allow_tf32 = matmul
        torch.backends.cudnn.allow_tf32 = cudnn
        return {
            "matmul.allow_tf32": str(torch.backends.cuda.matmul.allow_tf32),
            "cudnn.allow_tf32": str(torch.backends.cudnn.allow_tf32),
        }

    def event_pair(self) -> tuple[TimingEvent, TimingEvent]:
        """Events of the device's stream."""
        return torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

    def release(self) -> None:
        """Give back what PyTorch's allocator keeps."""
        torch.cuda.empty_cache()

    def reset_peak_memory(self) -> None:
        """Give unused memory back and count anew."""
        self.release()
        torch.cuda.reset_peak_memory_stats(self.torch_device)

    def peak_memory(self) -> tuple[int, int]:
        """What PyTorch's allocator counts: tensors, no workspaces."""
        return (
            int(torch.cuda.max_memory_allocated(self.torch_device)),
            int(torch.cuda.max_memory_reserved(self.torch_device)),
        )

    def fallback_operators(self, executed: list[str]) -> list[str]:
        """CUDA has no silent fallback, but the question is the same."""
        return dispatcher.without_kernel(executed, "CUDA")

    def explain(self, error: BaseException) -> CaseProblem | None:
        """Out of memory and CUDA errors."""
        if isinstance(error, torch.OutOfMemoryError):
            return CaseProblem(Status.ERROR_OOM, Stage.FORWARD, _said("memory", self.spec, error))
        if "CUDA error" in str(error):
            return CaseProblem(
                Status.ERROR_DEVICE, Stage.FORWARD, _said("failed", self.spec, error)
            )
        return None


def _said(what: str, device: DeviceSpec, error: BaseException) -> Said:
    if what == "memory":
        return say("device.memory", "{device} ran out of memory: {error}", device=device,
                   error=_first(error))  # fmt: skip
    return say("device.failed", "{device} failed: {error}", device=device, error=_first(error))


def _first(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
