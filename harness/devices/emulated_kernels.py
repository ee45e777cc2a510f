"""Kernels that the emulated NPU can compute with: the CPU's own, other honest ones, and wrong ones.

What an NPU's makers ship adds in another order, takes other algorithms and rounds functions
otherwise than the CPU.  Each set here is one that could be shipped: float32 sums, and one rounding
where float16 or bfloat16 is stored.  Those under "broken/" are wrong in one operator each
(`broken_kernels`): they are for measuring what a verdict catches.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.devices.broken_kernels import BROKEN
from harness.devices.spec import DeviceSpec
from harness.system.status import UsageProblem

DEFAULT = "default"
BROKEN_PREFIX = "broken/"
# Name -> what differs from the CPU's kernels.
HONEST: Mapping[str, str] = {
    "sequential": "every sum adds its terms one after another, a bias first",
    "blocked": "sums in blocks whose sums are added one after another, a bias last: of 16 terms in "
    "matrix products and convolutions, of 64 elsewhere",
    "blocked128": "as blocked, all blocks of 128 terms",
    "winograd2": "3x3 convolutions of stride 1 by Winograd's F(2x2, 3x3) in float32 (Lavin and "
    "Gray 2015, arXiv:1509.09308)",
    "winograd4": "the same by F(4x4, 3x3)",
    "ulp2": "functions such as exp, erf, rsqrt and division off by up to 2 units in the last place "
    "more, in softmax and normalisations too",
    "ulp4": "the same, up to 4 units",
    "normalisation": "statistics of layer, group and instance norm by Welford in blocks, and all "
    "normalisations as x * a + b with one a and b for each channel and sample",
    "attention": "fused attention tile by tile of 128 keys with a running maximum and sum, the "
    "query scaled first",
}


def known(name: str) -> bool:
    """Whether there are kernels of this name."""
    if name.startswith(BROKEN_PREFIX):
        return name.removeprefix(BROKEN_PREFIX) in BROKEN
    return name == DEFAULT or name in HONEST


def check_for(name: str, device: DeviceSpec) -> str:
    """The name, checked.

    Raises UsageProblem for an unknown name, or a device whose kernels are its own.
    """
    if not known(name):
        raise UsageProblem(
            f"Unknown kernels {name!r} in --emulated-kernels: give one of "
            f"{', '.join((DEFAULT, *HONEST))}, or {BROKEN_PREFIX}NAME with one of "
            f"{', '.join(BROKEN)}."
        )
    if name != DEFAULT and not device.emulated:
        raise UsageProblem(
            f"--emulated-kernels works on the emulated NPU only, not on {device}: add --device "
            "npu-emulated."
        )
    return name
