"""The host's CPU: what it is, and what of it this process may use.  No torch here."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import platform
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from harness.system.environment import masked

# What decides how fast a convolution or matrix product can be.
_FLAGS = (
    *("avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16"),
    *("avx512_fp16", "avx_vnni", "amx_tile", "amx_bf16", "amx_int8"),
    *("asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2", "svebf16", "sme"),
)
# Load over logical cores; the case's own verdict, just before, makes up to 1.
BUSY_LOAD = 1.25
_SETTINGS = re.compile(r"(OMP|GOMP|KMP|MKL|ONEDNN|DNNL|ATEN)_|TORCH_NUM_THREADS")
# aarch64 names a CPU by two numbers (MIDR_EL1); these are as lscpu of util-linux names them.
_ARM = {
    ("0x41", "0xd0c"): "Arm Neoverse-N1",
    ("0x41", "0xd40"): "Arm Neoverse-V1",
    ("0x41", "0xd49"): "Arm Neoverse-N2",
    ("0x41", "0xd4f"): "Arm Neoverse-V2",
    ("0x48", "0xd01"): "HiSilicon TaiShan-v110 (Kunpeng 920)",
    ("0x48", "0xd02"): "HiSilicon TaiShan-v120",
}


@dataclasses.dataclass(frozen=True)
class HostInfo:
    """The CPU of a measurement.

    `physical_cores`, `logical_cores`: those that the process may run on; `affinity`: their
    numbers; `quota`: cores' worth of time that a container may use, None for no limit; `flags`:
    instruction sets that matter here; `settings`: OpenMP's, oneDNN's and MKL's in the
    environment; `default_threads`: what PyTorch takes by itself; `capability`: the instruction
    set that its kernels use; `onednn`: whether it was on; `load`: the host's load average over one
    minute before the measurement.
    """

    model: str
    architecture: str
    physical_cores: int
    logical_cores: int
    affinity: str
    quota: float | None
    flags: tuple[str, ...]
    settings: dict[str, str]
    default_threads: int
    capability: str
    onednn: bool
    load: float

    @property
    def usable_cores(self) -> int:
        """Physical cores that the process can keep busy."""
        return _usable(self.physical_cores, self.quota)

    @property
    def busy(self) -> bool:
        """Whether other work had part of the CPU when the measurement began."""
        return self.load > BUSY_LOAD * self.logical_cores


def describe(default_threads: int, capability: str, onednn: bool) -> HostInfo:
    """Describe the CPU as this process sees it now; what only PyTorch knows is given."""
    cpuinfo = _read(Path("/proc/cpuinfo"))
    cpus = affinity()
    return HostInfo(
        model=cpu_model(cpuinfo) or platform.processor() or platform.machine(),
        architecture=platform.machine(),
        physical_cores=physical_cores(cpus),
        logical_cores=len(cpus),
        affinity=ranges(cpus),
        quota=quota(),
        flags=cpu_flags(cpuinfo),
        settings=settings(),
        default_threads=default_threads,
        capability=capability,
        onednn=onednn,
        load=os.getloadavg()[0],
    )


@functools.cache
def name() -> str:
    """The CPU's name."""
    return cpu_model(_read(Path("/proc/cpuinfo"))) or platform.processor() or platform.machine()


@functools.cache
def instruction_sets() -> tuple[str, ...]:
    """What the CPU has of the instruction sets that matter here."""
    return cpu_flags(_read(Path("/proc/cpuinfo")))


def cpu_model(cpuinfo: str) -> str:
    """The CPU's name in the text of /proc/cpuinfo; "" where that has none."""
    fields = _fields(cpuinfo)
    if "model name" in fields:
        return fields["model name"]
    implementer, part = fields.get("CPU implementer", ""), fields.get("CPU part", "")
    if not part:
        return ""
    return _ARM.get((implementer, part), f"implementer {implementer}, part {part}")


def cpu_flags(cpuinfo: str) -> tuple[str, ...]:
    """The instruction sets that matter, in the text of /proc/cpuinfo."""
    fields = _fields(cpuinfo)
    known = fields.get("flags", fields.get("Features", "")).split()
    return tuple(flag for flag in _FLAGS if flag in known)


def affinity() -> tuple[int, ...]:
    """Numbers of the logical CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def physical_cores(cpus: Iterable[int], system: Path = Path("/sys/devices/system/cpu")) -> int:
    """How many cores these logical CPUs are; each its own where the system does not tell."""
    found = set()
    for cpu in cpus:
        topology = system / f"cpu{cpu}" / "topology"
        core = (_read(topology / "physical_package_id"), _read(topology / "core_id"))
        found.add(core if all(core) else (str(cpu), "unknown"))
    return len(found)


def quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Cores' worth of time that the control group allows (version 2, else 1); None: no limit."""
    limit, _, period = _read(root / "cpu.max").strip().partition(" ")
    if not limit:
        limit = _read(root / "cpu" / "cpu.cfs_quota_us").strip()
        period = _read(root / "cpu" / "cpu.cfs_period_us").strip()
    try:
        cores = int(limit) / int(period)
    except ValueError:  # "max", or no such file
        return None
    return cores if cores > 0 else None


def settings(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Settings in the environment that change the CPU's threads or kernels."""
    return {key: masked(environ[key]) for key in sorted(environ) if _SETTINGS.match(key)}


def thread_counts(physical: int, logical: int, limit: float | None, default: int) -> list[int]:
    """Numbers of threads worth trying, the likeliest first.

    The cores, all logical CPUs, what PyTorch takes by itself, then halves of the cores down to 1.
    `limit`: as `quota` gives it.
    """
    cores = _usable(physical, limit)
    halves = [cores >> shift for shift in range(1, cores.bit_length())]
    return list(dict.fromkeys([cores, max(cores, _usable(logical, limit)), default, *halves]))


def ranges(numbers: Iterable[int]) -> str:
    """Numbers in ascending order as text: "0-3,8"."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in parts)


def _usable(cores: int, limit: float | None) -> int:
    return cores if limit is None else max(1, min(cores, math.ceil(limit)))


def _fields(cpuinfo: str) -> dict[str, str]:
    """The fields of the first CPU."""
    found: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, separator, value = line.partition(":")
        if separator:
            found.setdefault(key.strip(), value.strip())
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
