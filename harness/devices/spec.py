"""A device's name, as the user writes it.  Imports neither torch nor torch_npu."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from harness.system import visible_devices
from harness.system.status import UsageProblem

if TYPE_CHECKING:
    pass

KINDS = ("cpu", "npu", "npu-emulated", "cuda")
EMULATED_DEVICES = 8  # how many devices the emulator shows
# The one sentence about results of an emulated device.
EMULATED_MEANS = "EMULATED: no evidence about NPU hardware"
CAVEAT = f" - {EMULATED_MEANS}"


@dataclasses.dataclass(frozen=True)
class DeviceSpec:
    """A device as asked for: its kind and its index among the visible devices."""

    kind: str
    index: int = 0

    @property
    def emulated(self) -> bool:
        """Whether results of this device are EMULATED, no evidence about hardware."""
        return self.kind == "npu-emulated"

    @property
    def caveat(self) -> str:
        """What has to stand behind a line that names this device; "" for a real one."""
        return CAVEAT if self.emulated else ""

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"


def parse(text: str) -> DeviceSpec:
    """Read "npu", "npu:1", "npu-emulated", "cuda:0", "cpu".

    Raises UsageProblem for anything else; "auto" is settled by `choose`.
    """
    match = re.fullmatch(r"([a-z-]+)(?::(\d+))?", text.strip())
    if not match or match[1] not in KINDS or (match[1] == "cpu" and match[2]):
        raise UsageProblem(
            f"Unknown device {text!r}: give one of auto, {', '.join(KINDS)}; npu, npu-emulated "
            "and cuda take an index, as in npu:1."
        )
    spec = DeviceSpec(match[1], int(match[2] or 0))
    if spec.emulated and spec.index >= (
        count := len(visible_devices.emulated_ids(EMULATED_DEVICES))
    ):
        raise UsageProblem(
            f"No device {spec}: {count} devices of the emulator are visible, npu-emulated:0 to "
            f"npu-emulated:{count - 1}."
        )
    return spec
