"""What a device's process is asked by a qualification: who it is, and calls to run and judge."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from harness.execution import gelu
from harness.execution.operators.calls import Call
from harness.execution.worker import POISONED
from harness.qualification import inputs
from harness.qualification.cropping import MOST_FLOPS
from harness.qualification.judging import Judge
from harness.qualification.outcomes import Outcome
from harness.qualification.signatures import Signature, parse
from harness.records.leg import DeviceInfo
from harness.system import files
from harness.system.messages import say
from harness.system.status import CaseProblem, Stage, StageCallback, Status

if TYPE_CHECKING:
    from harness.devices.device import Device


@dataclasses.dataclass(frozen=True)
class Describe:
    """A request to a device's process: what it is, and its settings as read back."""

    numerics: str
    dtype: str = "float32"

    def answer(self, device: Device, on_stage: StageCallback) -> tuple[DeviceInfo, dict[str, str]]:
        """With the form of GELU that it computes, where it is not the one asked for.

        Raises CaseProblem (fail_unsupported) for a device that does not compute in the dtype.
        """
        read = device.apply_numerics(self.numerics)
        try:
            one = torch.ones(2, dtype=getattr(torch, self.dtype)).to(device.torch_device)
            device.operator(torch.ops.aten.add.Tensor)(one, one).cpu()
            device.synchronize()
        except (RuntimeError, TypeError, NotImplementedError) as error:
            reason = say(
                "device.no_dtype",
                "{device} does not compute in {dtype}: give another --dtype.",
                device=device.spec,
                dtype=self.dtype,
            )
            raise CaseProblem(Status.FAIL_UNSUPPORTED, Stage.LOAD, reason) from error
        form = gelu.instead(device.torch_device, {"none", "tanh"})
        return device.describe(), {**read, **({} if form is None else {"gelu": form})}


@dataclasses.dataclass(frozen=True)
class Batch:
    """A request to a device's process: run these calls and judge them.

    `calls`: id -> signature's text; `numerics`: a profile, and `read` what `Describe` gave for it;
    `known`: id -> set -> (bits, inputs) of an earlier run; what has the same is not judged again.
    The answer is one outcome a call, in order, up to the first after which the process is not to
    be trusted.
    """

    calls: Mapping[str, str]
    dtype: str
    numerics: str
    read: Mapping[str, str]
    known: Mapping[str, Mapping[str, tuple[str, str]]] = dataclasses.field(default_factory=dict)
    variants: bool = False
    largest: float = MOST_FLOPS
    fault_plan: str | None = None

    def answer(self, device: Device, on_stage: StageCallback) -> list[Outcome]:
        """Run and judge."""
        on_stage(Stage.FORWARD)
        judge = self.prepared(device)
        found = []
        with torch.no_grad():
            for name, text in self.calls.items():
                known = self.known.get(name, {})
                found.append(judge.outcome(name, text, known, variants_too=self.variants))
                if found[-1].status in POISONED:
                    break
        return found

    def prepared(self, device: Device, scripts: Path | None = None) -> Judge:
        """What judges, with the device as it was asked for; `scripts`: as of `Single`."""
        # Several such processes share the host, and bits of its own kernels depend on it.
        torch.set_num_threads(1)
        device.apply_numerics(self.numerics)
        device.plant(self.fault_plan)
        return Judge(device, self.dtype, self.read, largest=self.largest, scripts=scripts)


@dataclasses.dataclass(frozen=True)
class Single:
    """A request to a device's process: one call again, on its sets or on given tensors.

    `path`: a safetensors file whose tensors, in the order of their names, are the arguments;
    `scripts`: a folder for scripts that show what fails without this harness, None for none.
    """

    batch: Batch
    path: Path | None = None
    scripts: Path | None = None

    def answer(self, device: Device, on_stage: StageCallback) -> list[Outcome]:
        """Run and judge.  Raises CaseProblem (fail_load) for tensors that do not fit."""
        ((name, text),) = self.batch.calls.items()
        call = None if self.path is None else _given(parse(text), self.path)
        judge = self.batch.prepared(device, self.scripts)
        with torch.no_grad():
            return [judge.outcome(name, text, {}, variants_too=self.batch.variants, given=call)]


def _given(signature: Signature, path: Path) -> Call:
    try:
        tensors, _ = files.tensors_of(path.read_bytes())
    except (OSError, ValueError, RuntimeError) as error:
        english = "{path} cannot be read as safetensors: {error}."
        reason = say("call.unreadable", english, path=path, error=error)
        raise CaseProblem(Status.FAIL_LOAD, Stage.LOAD, reason) from error
    values = [tensors[name] for name in sorted(tensors)]
    layouts = signature.layouts()
    if [tuple(value.shape) for value in values] != [layout.shape for layout in layouts]:
        shapes = ", ".join("x".join(map(str, layout.shape)) for layout in layouts)
        reason = say(
            "call.shapes",
            "The tensors of {path}, in the order of their names, must have shapes {shapes}.",
            path=path,
            shapes=shapes,
        )
        raise CaseProblem(Status.FAIL_LOAD, Stage.LOAD, reason)
    halves = (torch.float16, torch.bfloat16)
    return signature.call(
        lambda number, layout: inputs.placed(
            values[number].float() if layout.dtype in halves else values[number].to(layout.dtype),
            layout,
        )
    )
