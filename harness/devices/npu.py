"""The NPU through torch_npu, on real CANN or on the CANN emulator."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import importlib
import os
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from harness.devices import dispatcher, emulated_kernels, npu_settings
from harness.devices.device import Counters, Device, Plain, TimingEvent, refuse_faults
from harness.devices.module_path import ModulePath
from harness.devices.spec import EMULATED_DEVICES, DeviceSpec
from harness.records.leg import DeviceInfo
from harness.system import visible_devices
from harness.system.messages import say
from harness.system.status import CaseProblem, Stage, StageCallback, Status, UsageProblem

_CUBE = "matmul.cube_math_type"

# Host code, so the same on every chip; other settings of torch_npu change nothing.
_STRIDES_REMEDY = say(
    "device.strides",
    ". torch_npu refuses this operator on a tensor with its channels last: call .contiguous() on "
    "the tensor before it",
)

_CODE = re.compile(r"\bERR(\d{2})(\d{3})\b")
# The first phase does not take the arguments; CANN's own text follows on a line of its own.
_REFUSED = re.compile(r"call (aclnn\w+) failed, error code is 161\d{3}\b")
_DETAIL = re.compile(r"^E[A-Z]\d{4}: .*", re.MULTILINE)
_ACLNN = re.compile(r"\b(aclnn\w+?)(?:GetWorkspaceSize)?\b(?! failed)")


class NpuDevice(Plain):
    """One NPU; torch_npu is imported here and nowhere else."""

    def __init__(self, spec: DeviceSpec, kernels: str = emulated_kernels.DEFAULT) -> None:
        """`kernels`: what the emulator computes with (`emulated_kernels`)."""
        for name, value in npu_settings.before_load().items():
            os.environ.setdefault(name, value)
        self.emulator: Any = None
        self._untried = False
        if spec.emulated:
            from harness.devices import emulator

            try:
                count = len(visible_devices.emulated_ids(EMULATED_DEVICES))
                self.emulator = emulator.load(emulator.EmulatorOptions(count=count))
                torch_npu: Any = self.emulator.import_torch_npu()
            except emulator.EmulatorError as error:
                raise UsageProblem(str(error)) from error
            self._untried = self.emulator.untried
            self.emulator.set_kernels(kernels)
        else:
            torch_npu = importlib.import_module("torch_npu")
        self._npu: Any = torch.npu  # type: ignore[attr-defined]
        self._torch_npu: Any = torch_npu
        if not spec.emulated and _is_emulator():
            raise UsageProblem(
                "The CANN libraries on the library path are the emulator's: ask for it by its own "
                "name, --device npu-emulated, so that its results are labelled EMULATED."
            )
        count = self._npu.device_count()
        if spec.index >= count:
            raise UsageProblem(f"No device {spec}: torch_npu sees {count} device(s).")
        self.spec = spec
        self.torch_device = torch.device("npu", spec.index)
        self._npu.set_device(self.torch_device)
        self._formats = npu_settings.Formats(self._npu, torch_npu, emulated=spec.emulated)
        self._formats.apply(strict=False)
        self._has_compatible_impl = npu_settings.has_compatible_impl(torch_npu)
        self._defaults = self._read_numerics()

    def synchronize(self) -> None:
        """Wait for the device; asynchronous operator errors surface here."""
        self._npu.synchronize(self.torch_device)

    def describe(self) -> DeviceInfo:
        """Return name, uuid, memory, torch_npu and CANN versions (and where CANN's was read)."""
        properties = self._npu.get_device_properties(self.spec.index)
        cann, source = self._cann_version()
        return DeviceInfo(
            spec=str(self.spec),
            kind=self.spec.kind,
            name=str(properties.name),
            emulated=self.spec.emulated,
            index=self.spec.index,
            uuid=str(getattr(properties, "uuid", "") or "") or None,
            total_memory_bytes=int(properties.total_memory),
            details={
                "torch_npu": str(self._torch_npu.__version__),
                "cann": cann,
                "cann_source": source,
                "visible_devices": str(self._npu.device_count()),
                "soc_version": str(self._call("npu.utils.get_soc_version")),
                "inf_nan_mode": str(self._call("npu.utils.is_support_inf_nan")),
                "jit_compile": str(self._call("npu.is_jit_compile_false", invert=True)),
                "task_queue": npu_settings.task_queue(self._torch_npu),
                **npu_settings.described(self._torch_npu),
                "has_compatible_impl": str(self._has_compatible_impl),
                **self._emulator(),
            },
        )

    def apply_numerics(self, profile: str) -> dict[str, str]:
        """Strict turns off what shortens factors, compiles at run time or has its own formats."""
        self._formats.apply(strict=profile == "strict")
        wanted = dict(self._defaults)
        if profile == "strict":
            wanted.update({"conv.allow_hf32": False, "matmul.allow_hf32": False})
        # Unset it is of no effect; torch_npu has no way to unset it again.
        if wanted.get(_CUBE) is not None:
            if profile == "strict":
                wanted[_CUBE] = npu_settings.keep_dtype(self._torch_npu)
            self._npu.matmul.cube_math_type = wanted[_CUBE]
        self._npu.conv.allow_hf32 = wanted["conv.allow_hf32"]
        self._npu.matmul.allow_hf32 = wanted["matmul.allow_hf32"]
        got = self._read_numerics()
        if got != wanted:
            raise CaseProblem(
                Status.ERROR_DEVICE,
                Stage.LOAD,
                say(
                    "device.numerics",
                    "Numerics profile {profile!r} did not take: asked for {wanted}, the device "
                    "reads back {got}.",
                    profile=profile,
                    wanted=wanted,
                    got=got,
                ),
            )
        return {name: str(value) for name, value in got.items()}

    def plant(self, fault_plan: str | None) -> None:
        """Put planned faults into the emulator; a real NPU has none to plant."""
        if self.emulator is None:
            refuse_faults(self.spec, fault_plan)
            return
        from harness.devices.fault_plan import FaultPlan

        self.emulator.set_faults(FaultPlan.from_json(fault_plan) if fault_plan else None)
        self.emulator.reset_counters()

    def watching(self, model: nn.Module) -> contextlib.AbstractContextManager[None]:
        """Tell the emulator, where a planned fault asks for it."""
        if self.emulator is None or not self.emulator.faults.modules:
            return contextlib.nullcontext()

        def change(path: str) -> None:
            self.synchronize()  # what waits in torch_npu's queue is of the module before
            self.emulator.set_module(path)

        return ModulePath(change).watching(model)

    def rehearsal(self) -> contextlib.AbstractContextManager[None]:
        """Planned faults do not count what runs inside."""
        return contextlib.nullcontext() if self.emulator is None else self.emulator.rehearsal()

    def counters(self) -> Counters:
        """Ask the emulator; CANN itself does not tell."""
        if self.emulator is None:
            return Counters()
        return Counters(self.emulator.operator_counts(), tuple(self.emulator.fault_effects()))

    def event_pair(self) -> tuple[TimingEvent, TimingEvent]:
        """Events of the device's stream; the emulator's read the host's clock."""
        return self._npu.Event(enable_timing=True), self._npu.Event(enable_timing=True)

    def release(self) -> None:
        """Give back what torch_npu's allocator keeps."""
        self._npu.empty_cache()

    def reset_peak_memory(self) -> None:
        """Give unused memory back and count anew."""
        self.release()
        self._npu.reset_peak_memory_stats(self.torch_device)

    def peak_memory(self) -> tuple[int, int]:
        """What PyTorch's allocator counts: tensors, no workspaces."""
        return (
            int(self._npu.max_memory_allocated(self.torch_device)),
            int(self._npu.max_memory_reserved(self.torch_device)),
        )

    def fallback_operators(self, executed: list[str]) -> list[str]:
        """Operators that torch_npu lacks and runs on the CPU."""
        return dispatcher.without_kernel(executed, "PrivateUse1")

    def explain(self, error: BaseException) -> CaseProblem | None:
        """Read torch_npu's error codes (ERRmmccc: module and code) and CANN's texts."""
        text = str(error)
        first = " ".join(text.split("\n[ERROR]")[0].split())[:400]
        if isinstance(error, torch.OutOfMemoryError) or "out of memory" in text.lower():
            return CaseProblem(
                Status.ERROR_OOM,
                Stage.FORWARD,
                say(
                    "device.memory",
                    "{device} ran out of memory: {error}",
                    device=self.spec,
                    error=first,
                ),
            )
        code = _CODE.search(text)
        missing = self.emulator.missing_operators() if self.emulator else []
        unsupported = isinstance(error, NotImplementedError) or (code and code[2] in ("004", "007"))
        if unsupported or missing:
            named = missing or sorted(set(_ACLNN.findall(text)))
            strides = "MemoryFormat::Contiguous is supported" in text
            remedy = _STRIDES_REMEDY if strides else ""
            return CaseProblem(
                Status.FAIL_UNSUPPORTED,
                Stage.FORWARD,
                say(
                    "device.lacks",
                    "{device} lacks {operators}: {error}{remedy}",
                    device=self.spec,
                    operators=_operators(named),
                    error=first,
                    remedy=remedy,
                ),
            )
        if refused := _REFUSED.search(text):
            detail = _DETAIL.search(text)
            return CaseProblem(
                Status.FAIL_UNSUPPORTED,
                Stage.FORWARD,
                say(
                    "device.refuses",
                    "{device} refuses an operator of this model ({operator}): {error}",
                    device=self.spec,
                    operator=refused[1],
                    error=detail[0][:400] if detail else first,
                ),
            )
        if code and code[2] == "011":
            said = say("device.timeout", "{device}: {error}", device=self.spec, error=first)
            return CaseProblem(Status.ERROR_TIMEOUT, Stage.FORWARD, said)
        if code or "aicore" in text or "ACL" in text:
            english = "{device} failed: {error}"
            said = say("device.failed", english, device=self.spec, error=first)
            return CaseProblem(Status.ERROR_DEVICE, Stage.FORWARD, said)
        return None

    def _emulator(self) -> dict[str, str]:
        """One more place that says EMULATED: who relabels a record has to find them all."""
        if self.emulator is None:
            return {}
        return {
            "emulator": f"{'un' * self._untried}tried with this torch_npu",
            "emulated_kernels": self.emulator.kernels,
        }

    def _read_numerics(self) -> dict[str, Any]:
        read: dict[str, Any] = {
            "conv.allow_hf32": bool(self._npu.conv.allow_hf32),
            "matmul.allow_hf32": bool(self._npu.matmul.allow_hf32),
        }
        # Newer torch_npu only; it can lower the precision of every matrix product.
        if npu_settings.has_cube_math_type(self._torch_npu):
            read[_CUBE] = self._npu.matmul.cube_math_type
        return read

    def _cann_version(self) -> tuple[str, str]:
        with contextlib.suppress(Exception):  # needs CANN >= 8.1.RC1
            version = self._torch_npu.npu.utils.get_cann_version("CANN")
            if version:
                return str(version), "torch_npu.npu.utils.get_cann_version"
        version = getattr(torch.version, "cann", None)
        if version:
            return str(version), "torch.version.cann"
        return "unknown", "neither torch_npu nor torch.version knows it"

    def _call(self, path: str, *, invert: bool = False) -> Any:
        """Call torch_npu.<path>() where it exists: these differ between versions."""
        target: Any = self._torch_npu
        for part in path.split("."):
            target = getattr(target, part, None)
        if target is None:
            return "unknown"
        try:
            return not target() if invert else target()
        except Exception as error:
            return f"unknown ({type(error).__name__})"


@dataclasses.dataclass(frozen=True)
class TakeKernels:
    """A request to the emulated NPU's process: compute with these kernels from now on."""

    name: str

    def answer(self, device: Device, on_stage: StageCallback) -> None:
        """Take them in that process.  Raises ValueError for an unknown name."""
        assert isinstance(device, NpuDevice) and device.emulator is not None
        device.synchronize()
        device.emulator.set_kernels(self.name)


def _is_emulator() -> bool:
    try:
        return hasattr(ctypes.CDLL("libascendcl.so"), "harness_emulator_marker")
    except OSError:
        return False


def _operators(names: Sequence[str]) -> str:
    if not names:
        return say("device.needs", "what this model needs")
    return say("device.operators", "an operator of this model ({names})", names=", ".join(names))
