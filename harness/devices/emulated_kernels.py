"""Kernels that the emulated NPU can compute with: CANN's as published, the CPU's own, others.

`cann`, the default, computes what CANN's public sources say that its kernels compute on a 910B
(docs/emulated-npu.md); none of it was measured on one.  `aten` are the CPU's own kernels, bit for
bit.  What else an NPU's makers could ship adds in another order, takes other algorithms and rounds
functions otherwise: each set of `HONEST` is `aten` with such a difference, sums in float32 and one
rounding where float16 or bfloat16 is stored.  Those under "broken/" are `aten` with one operator
wrong (`broken_kernels`), those under "cann+broken/" are `cann` with the same mistakes: they are for
measuring what a verdict catches.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.devices.broken_kernels import BROKEN
from harness.devices.spec import DeviceSpec
from harness.system.status import UsageProblem

CANN = "cann"
ATEN = "aten"
DEFAULT = CANN
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


def parts(name: str) -> tuple[str, str]:
    """The set and the mistake in it, "" for none: "cann+broken/roll" -> ("cann", "roll").

    Raises ValueError when there are no kernels of this name.
    """
    kernels, broken, mistake = name.partition(BROKEN_PREFIX)
    if broken:
        kernels = {"": ATEN, f"{CANN}+": CANN}.get(kernels, "")
    if kernels not in (CANN, ATEN, *HONEST) or (broken and mistake not in BROKEN):
        raise ValueError(f"no kernels are called {name!r}")
    return kernels, mistake


def check_for(name: str | None, device: DeviceSpec) -> str:
    """The name, checked; of None the default.

    Raises UsageProblem for an unknown name, or a device whose kernels are its own.
    """
    if name is None:
        return DEFAULT
    try:
        parts(name)
    except ValueError as error:
        raise UsageProblem(
            f"Unknown kernels {name!r} in --emulated-kernels: give one of "
            f"{', '.join((CANN, ATEN, *HONEST))}, or {BROKEN_PREFIX}NAME or "
            f"{CANN}+{BROKEN_PREFIX}NAME with one of {', '.join(BROKEN)}."
        ) from error
    if name != DEFAULT and not device.emulated:
        raise UsageProblem(
            f"--emulated-kernels works on the emulated NPU only, not on {device}: add --device "
            "npu-emulated."
        )
    return name
