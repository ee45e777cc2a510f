"""Kernels that the emulated NPU can compute with: the CPU's own, other honest ones, and wrong ones.

What an NPU's makers ship adds in another order, takes other algorithms and rounds functions
otherwise than the CPU.  Each set here is one that could be shipped: float32 sums, and one rounding
where float16 or bfloat16 is stored.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.devices.spec import DeviceSpec
from harness.system.status import UsageProblem

DEFAULT = "default"
# Name -> what differs from the CPU's kernels.
HONEST: Mapping[str, str] = {
    "sequential": "every sum adds its terms one after another, a bias first",
    "blocked": "sums in blocks whose sums are added one after another, a bias last: of 16 terms in "
    "matrix products and convolutions, of 64 elsewhere",
    "blocked128": "as blocked, all blocks of 128 terms",
}


def known(name: str) -> bool:
    """Whether there are kernels of this name."""
    return name == DEFAULT or name in HONEST


def check_for(name: str, device: DeviceSpec) -> str | None:
    """The name of other kernels, None for the default.

    Raises UsageProblem for an unknown name, or a device whose kernels are its own.
    """
    if not known(name):
        raise UsageProblem(
            f"Unknown kernels {name!r} in --emulated-kernels: give one of "
            f"{', '.join((DEFAULT, *HONEST))}."
        )
    if name == DEFAULT:
        return None
    if not device.emulated:
        raise UsageProblem(
            f"--emulated-kernels works on the emulated NPU only, not on {device}: add --device "
            "npu-emulated."
        )
    return name
