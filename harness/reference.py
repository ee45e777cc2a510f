"""The CPU's answers: in the case's dtype, in float64, and rounded as the device declares.

They do not depend on the device, so cases that differ only in the device's settings share them.
"""

from __future__ import annotations

import collections

from harness import devices, legs
from harness.arithmetic import Arithmetic
from harness.budget import Budget
from harness.devices import DeviceSpec
from harness.devices.base import Device
from harness.legs import LegRequest, LegResult
from harness.metrics import Array, count_nonfinite
from harness.status import CaseProblem, Stage, Status

# Cases that share answers follow each other: a default and a strict one need five legs.
_KEPT = 8


class CpuSide:
    """Runs CPU legs in this process and keeps the last few."""

    def __init__(self) -> None:
        self._device: Device | None = None
        self._kept: collections.OrderedDict[LegRequest, LegResult] = collections.OrderedDict()

    def reference(self, request: LegRequest) -> LegResult:
        """The plain CPU leg in the case's dtype, timed like the device's."""
        return self._run(request.on_cpu(repeat=request.repeat))

    def oracle(self, request: LegRequest) -> dict[str, Array]:
        """The float64 leg.  Raises CaseProblem (fail_reference) when there is none to be had."""
        return self._run(request.on_cpu(dtype="float64")).outputs

    def budget(self, request: LegRequest, arithmetic: Arithmetic) -> Budget:
        """Honest runs in an arithmetic.

        Exact float32 is the CPU's own float32 in two orders of summation; a reduced arithmetic
        is imitated.  Raises CaseProblem (fail_reference) when the format cannot hold the model.
        """
        if arithmetic.exact:
            runs = (self.reference(request), self._run(request.on_cpu(reorder=True)))
            return Budget(arithmetic, tuple(run.outputs for run in runs))
        run = self._run(request.on_cpu(dtype="float32", imitate=arithmetic))
        broken = [name for name, array in run.outputs.items() if count_nonfinite(array)]
        if broken:
            raise CaseProblem(
                Status.FAIL_REFERENCE,
                Stage.REFERENCE,
                f"The model does not fit {arithmetic}: {', '.join(broken)} becomes NaN or "
                f"infinite on the CPU too when it rounds to that format (its largest number is "
                "exceeded). Use bfloat16 or float32.",
            )
        return Budget(arithmetic, (run.outputs,))

    def planted(
        self, request: LegRequest, arithmetic: Arithmetic, fault_plan: str | None
    ) -> LegResult:
        """One forward in an arithmetic with faults planted through hooks; not kept."""
        imitate = None if arithmetic.exact else arithmetic
        return self._fresh(
            request.on_cpu(
                dtype="float32", imitate=imitate, fault_plan=fault_plan, hook_faults=True
            )
        )

    def _fresh(self, request: LegRequest) -> LegResult:
        if self._device is None:
            self._device = devices.open_device(DeviceSpec("cpu"))
        return legs.run(self._device, request, lambda stage: None)

    def _run(self, request: LegRequest) -> LegResult:
        if request in self._kept:
            self._kept.move_to_end(request)
            return self._kept[request]
        result = self._fresh(request)
        self._kept[request] = result
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return result
