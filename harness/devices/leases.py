"""One process per device: a lock for each device of this host, held while a run uses it.

A lock is named by the device's number on the host, which ASCEND_RT_VISIBLE_DEVICES chooses from,
not by its place among the visible ones and not by the number of a pytest-xdist worker.  The kernel
frees it when its process ends, however that ends.  Runs of other users, in other containers, or
of other programs are not seen.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path

import filelock

from harness.devices import npu_probe
from harness.devices.spec import EMULATED_DEVICES, DeviceSpec
from harness.system import private, visible_devices
from harness.system.status import UsageProblem


@dataclasses.dataclass
class Lease:
    """A device that no other run takes until `release`, or the end of this process."""

    spec: DeviceSpec
    _lock: filelock.BaseFileLock | None = None

    def release(self) -> None:
        """Let others take the device."""
        if self._lock is not None:
            self._lock.release()


def devices_of(kind: str) -> list[str]:
    """Names on this host of the visible devices of a kind, in their order; CPUs have none.

    Raises UsageProblem when the visible devices are badly named, or there is none.
    """
    if kind == "npu-emulated":
        return [str(number) for number in visible_devices.emulated_ids(EMULATED_DEVICES)]
    if kind == "npu":
        npu_probe.require(0)
        count = npu_probe.probe().devices
        numbers = visible_devices.npu_ids()
        return [str(number) for number in (numbers or range(count))][:count]
    if kind == "cuda":
        import torch

        count = torch.cuda.device_count()
        given = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
        return given[:count] if given[0] else [str(number) for number in range(count)]
    return []


def default_directory() -> Path:
    """The user's runtime folder, which nobody else can write to; else a part of the temporary one.

    Also where a job's environment does not name it: both would lock the same devices.
    """
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    if os.access(runtime, os.W_OK | os.X_OK) and not private.problem(runtime):
        return runtime / "npu-accuracy" / "devices"
    return Path(tempfile.gettempdir(), f"npu-accuracy-{os.getuid()}", "devices")


def take(spec: DeviceSpec, *, exact: bool, directory: Path | None = None) -> Lease:
    """Take a device: `spec` itself when `exact`, else the first free one of its kind.

    `directory`: where the locks lie (default: `default_directory`).
    Raises UsageProblem when it, or all of them, are in use.  Emulated devices share nothing but
    the CPU, so that one is used twice rather than a run refused.
    """
    names = devices_of(spec.kind)
    if not names:
        return Lease(spec)
    directory = directory or default_directory()
    remedy = "Remove it, or set XDG_RUNTIME_DIR to a folder of your own."
    private.require(directory, "The folder of the locks on devices", remedy)
    for index in [spec.index] if exact else range(len(names)):
        lock = filelock.FileLock(directory / f"{spec.kind}-{names[index]}.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            continue
        except OSError as error:
            raise UsageProblem(
                f"{lock.lock_file} cannot be locked ({error.strerror}). {remedy}"
            ) from error
        return Lease(DeviceSpec(spec.kind, index), lock)
    if spec.emulated:
        return Lease(spec)
    what = f"{spec} is" if exact else f"All {len(names)} visible devices ({spec.kind}) are"
    raise UsageProblem(
        f"{what} in use by another run of the harness on this host: wait for it, or take fewer "
        "processes (-n) or other devices."
    )
