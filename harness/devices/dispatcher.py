"""Asks PyTorch's dispatcher where an operator has a kernel."""

from __future__ import annotations

import torch

# Kernels that run on any device by calling other operators (which are then seen themselves).
_COMPOSITE = (
    "CompositeImplicitAutograd",
    "CompositeExplicitAutograd",
    "CompositeExplicitAutogradNonFunctional",
)


def without_kernel(executed: list[str], backend_key: str) -> list[str]:
    """Return the operators that a backend lacks, so that they fall back to the CPU.

    `executed`: qualified names with overload, such as "aten::linalg_det.default".
    `backend_key`: dispatch key of the device, such as "PrivateUse1".  Independent of what ran
    before in the process, unlike the warning that torch_npu prints once per operator.
    """
    missing = []
    for name in executed:
        base, _, overload = name.rpartition(".")
        qualified = base if overload == "default" else name
        keys = (backend_key, *_COMPOSITE)
        if not any(torch._C._dispatch_has_kernel_for_dispatch_key(qualified, key) for key in keys):
            missing.append(name)
    return missing
