"""Devices and cores among the processes of pytest-xdist: the controller leases and hands out.

Worker ids are not device numbers.  Without pytest-xdist the one process leases for itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import pytest

from harness.devices import leases
from harness.devices.choice import Choice, choose
from harness.devices.leases import Lease
from harness.devices.spec import DeviceSpec
from harness.entry.pytest_plugin import options
from harness.system import processor
from harness.system.status import UsageProblem

_LEASES: pytest.StashKey[dict[str, Lease]] = pytest.StashKey()  # by worker
# What the controller sends to its workers.
_KEPT = "harness_kept"  # ids
_DEVICE = "harness_device"  # kind, index, reason


def is_worker(config: pytest.Config) -> bool:
    """Whether this process is a worker of pytest-xdist."""
    return hasattr(config, "workerinput")


def kept(config: pytest.Config) -> frozenset[str] | None:
    """Ids of cases that an earlier run settled, as the controller says; None in other processes."""
    return frozenset(_input(config)[_KEPT]) if is_worker(config) else None


def device(config: pytest.Config, *, runs_cases: bool) -> Choice:
    """The device of this process, leased for it; the controller leases none for itself.

    Raises UsageProblem, with the remedy, when it is not there.
    """
    if is_worker(config) and _DEVICE in _input(config):
        kind, index, reason = _input(config)[_DEVICE]
        return Choice(DeviceSpec(kind, index), reason)
    choice = choose(options.get(config, "device"))
    # A worker that was given none judges modules of its tests' own.
    if not is_worker(config) and (config.getoption("numprocesses", None) or not runs_cases):
        return choice
    lease = leases.take(choice.spec, exact=_names_index(config))
    _leases(config)[""] = lease
    return Choice(lease.spec, choice.reason)


def inform(
    config: pytest.Config,
    worker: str,
    workerinput: dict[str, object],
    choice: Choice,
    kept: Iterable[str],
) -> None:
    """Lease a device for a worker, and tell it what the controller knows.

    Raises UsageProblem when there are fewer free devices than workers.
    """
    lease = leases.take(choice.spec, exact=_names_index(config))
    _leases(config)[worker] = lease
    workerinput[_KEPT] = sorted(kept)
    workerinput[_DEVICE] = (lease.spec.kind, lease.spec.index, choice.reason)


def end_lease(config: pytest.Config, worker: str) -> None:
    """Take the device of a worker that ended: another will get it."""
    lease = _leases(config).pop(worker, None)
    if lease is not None:
        lease.release()


def auto_workers(config: pytest.Config) -> int | None:
    """What `-n auto` means: one process per device; None where pytest-xdist is to decide.

    Emulated devices compute on this host's cores, so that there are not more of them.  Raises
    UsageProblem when the device is not there.
    """
    spec = choose(options.get(config, "device")).spec
    count = 1 if _names_index(config) else len(leases.devices_of(spec.kind))
    return (min(count, len(processor.affinity())) if spec.emulated else count) or None


def check_workers(config: pytest.Config, workers: int, spec: DeviceSpec) -> None:
    """Raise UsageProblem when more processes than devices are asked for."""
    names = leases.devices_of(spec.kind)
    count = 1 if _names_index(config) else len(names)
    if names and workers > count:
        raise UsageProblem(
            f"-n {workers} asks for more processes than the {count} device(s) that --device "
            f"{options.get(config, 'device')} stands for: give -n auto."
        )


def share_threads(config: pytest.Config) -> None:
    """Give this worker, and the processes of its sides, a fair part of the host's cores.

    A number of threads that the caller set stays.  Without this every worker's CPU legs would
    use all cores at once.
    """
    if not os.environ.get("OMP_NUM_THREADS"):
        threads = max(1, len(processor.affinity()) // _input(config)["workercount"])
        os.environ["OMP_NUM_THREADS"] = str(threads)


def _input(config: pytest.Config) -> Any:
    return config.workerinput  # type: ignore[attr-defined]


def _names_index(config: pytest.Config) -> bool:
    return ":" in options.get(config, "device")


def _leases(config: pytest.Config) -> dict[str, Lease]:
    return config.stash.setdefault(_LEASES, {})
