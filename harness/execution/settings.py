"""How the cases of a run are run: each option once, from the command line to the record."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from harness.devices import emulated_kernels
from harness.devices.spec import DeviceSpec
from harness.records.throughput import ThroughputPlan
from harness.system import private, signing
from harness.system.files import check_writable, default_cache_dir
from harness.system.status import UsageProblem

# A result depends on it beside the case itself, so that records keep it and --resume compares it.
_RECORDED = {"recorded": True}


def _recorded(default: Any) -> Any:
    return dataclasses.field(default=default, metadata=_RECORDED)


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """How cases are run; the names are those of pytest's options.

    `case_timeout`: seconds for one request to a side.  `operator_share`: part of the operators to
    compare one by one; None: a share in float16 and bfloat16 alone; `operator_standard`: also by
    CANN's own standards.  `sensitivity`: measure what
    faults each case would have shown.  `localize`: "auto" (when a case does not pass), "always" or
    "never".  `fault_plan`: JSON.  `emulated_kernels`: what the emulated NPU computes with
    (`devices/`).  `reference_cache`: for CPU legs and inputs, None: `cache_dir`;
    `reference_cache_size`: bytes, 0: CPU legs are computed in every run; `reference_cache_key`:
    file of the key that signs a shared one, None: $HARNESS_CACHE_KEY.  `throughput`: what to
    measure of it after the verdict.
    """

    device: DeviceSpec
    cache_dir: Path = dataclasses.field(default_factory=default_cache_dir)
    case_timeout: float = 600.0
    repeat: int = _recorded(2)
    allow_cpu_fallback: bool = _recorded(False)
    operator_share: float | None = _recorded(None)
    operator_standard: bool = False
    sensitivity: bool = _recorded(False)
    localize: str = _recorded("auto")
    fault_plan: str | None = _recorded(None)
    emulated_kernels: str = _recorded(emulated_kernels.DEFAULT)
    reference_cache: Path | None = None
    reference_cache_size: int = 0
    reference_cache_key: Path | None = None
    throughput: ThroughputPlan | None = _recorded(None)

    @property
    def shows_the_stack(self) -> bool:
        """Whether results are those of the stack as it is: no history holds others."""
        return self.fault_plan is None and self.emulated_kernels == emulated_kernels.DEFAULT

    def check_folders(self) -> None:
        """Raise UsageProblem when others can write where models are kept, or the key is none."""
        try:
            private.make(self.cache_dir)
        except private.NotOurs as error:
            raise UsageProblem(
                f"Models in the cache {self.cache_dir} cannot be believed: {error.strerror}. Take "
                "that right away, or set HARNESS_CACHE_DIR to a folder of your own; references "
                "can be shared with --reference-cache and --reference-cache-key."
            ) from error
        except OSError:  # a run goes on without a cache
            pass
        signing.cache_key(self.reference_cache_key)

    def check_cache(self) -> None:
        """Raise UsageProblem where models cannot be kept, as the doctor does."""
        try:
            check_writable(self.cache_dir / "any")
        except OSError as error:
            raise UsageProblem(
                f"The cache {self.cache_dir} cannot be written ({error.strerror}): set "
                "HARNESS_CACHE_DIR to a directory on a disk with room."
            ) from error

    def recorded(self) -> dict[str, str]:
        """The settings that a result depends on, as a run's record keeps them."""
        found = {
            field.name: str(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.metadata == _RECORDED
        }
        plan = self.fault_plan
        found["fault_plan"] = hashlib.sha256(plan.encode()).hexdigest()[:12] if plan else "none"
        if self.throughput is None:  # no setting of runs without it
            del found["throughput"]
        if not self.device.emulated:
            del found["emulated_kernels"]
        return found
