"""Asks PyTorch's dispatcher where an operator has a kernel."""

from __future__ import annotations

import torch

# Kernels that run on any device by calling other operators (which are then seen themselves).
COMPOSITE = "CompositeImplicitAutograd"  # PyTorch can take it apart before a device sees it
_COMPOSITES = (COMPOSITE, "CompositeExplicitAutograd")
# A structured operator's generated kernel: it only allocates the result and calls the `out`
# overload, so the question moves to that one.
_STRUCTURED = "CompositeExplicitAutogradNonFunctional"


def without_kernel(executed: list[str], backend_key: str) -> list[str]:
    """Return the operators that a backend lacks, so that they fall back to the CPU.

    `executed`: qualified names with overload, such as "aten::linalg_det.default".
    `backend_key`: dispatch key of the device, such as "PrivateUse1".  Independent of what ran
    before in the process, unlike the warning that torch_npu prints once per operator.
    """
    return [name for name in executed if _computes(name) and not _runs_on(name, backend_key)]


def _computes(name: str) -> bool:
    """Whether an operator gives or writes anything: an assertion does not."""
    base, _, overload = name.rpartition(".")
    namespace, _, operator = base.partition("::")
    schema = getattr(getattr(getattr(torch.ops, namespace), operator), overload)._schema
    return bool(schema.returns) or any(argument.alias_info for argument in schema.arguments)


def _runs_on(name: str, backend_key: str) -> bool:
    base, _, overload = name.rpartition(".")
    qualified = base if overload == "default" else name
    if any(has_kernel(qualified, key) for key in (backend_key, *_COMPOSITES)):
        return True
    return has_kernel(qualified, _STRUCTURED) and any(
        has_kernel(f"{base}.{out}", backend_key) for out in _out_overloads(base)
    )


def _out_overloads(base: str) -> list[str]:
    namespace, _, operator = base.partition("::")
    packet = getattr(getattr(torch.ops, namespace), operator)
    return [
        overload
        for overload in packet.overloads()
        if any(argument.is_out for argument in getattr(packet, overload)._schema.arguments)
    ]


def has_kernel(qualified: str, key: str) -> bool:
    """Whether an operator ("aten::mean.dim", no ".default") has a kernel of a dispatch key."""
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(qualified, key))
