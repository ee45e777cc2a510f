"""Many hosts: a thin driver for a Ray cluster, which does all of the scheduling.

One task a case, on one device of the cluster.  A case whose task, process or node is lost is run
again elsewhere, as is one that ended with trouble of the infrastructure; a verdict stands.
"""

from __future__ import annotations

import collections
import dataclasses
import logging
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Any

from harness.cases.case import Case
from harness.execution.settings import RunSettings
from harness.records.lines import CaseRecord
from harness.runs import cluster_task
from harness.runs.cluster_task import Began, Ended, Event, Node, Refused
from harness.system import shown
from harness.system.files import ROOT
from harness.system.status import Stage, Status, UsageProblem

# How Ray counts the devices of a kind.
_RESOURCES = {"npu": "NPU", "npu-emulated": "NPU", "auto": "NPU", "cuda": "GPU", "cpu": "CPU"}
_LOOK_SECONDS = 120.0  # for a node to have a device free and say what it is
_WAIT_SECONDS = 300.0  # without any node that has such a device
# Beside those that are asked for: what ended outside the harness says nothing of the case.
_LOST_RETRIES = 3
# Tasks beyond the devices there are, so that none waits for the driver.
_AHEAD = 2


@dataclasses.dataclass
class _Try:
    case: Case
    number: int = 1
    lost: int = 0
    notes: list[str] = dataclasses.field(default_factory=list)


class Cluster:
    """A Ray cluster whose nodes have the device and one environment."""

    def __init__(self, address: str, device: str) -> None:
        """Connect and ask every node what it has.

        `address`: host:port of its head; `device`: as `--device` takes it,
        without an index.  Raises UsageProblem, with the remedy, when there is no Ray, no such
        cluster or device, or the nodes differ.
        """
        kind, index, _ = device.partition(":")
        if index:
            raise UsageProblem(f"--ray chooses among all devices: give --device {kind}.")
        self.device = device
        self._ray = _connect(address)
        # Once: Ray sends each remote function to all nodes.
        self._run = self._ray.remote(num_returns="streaming", max_retries=0)(cluster_task.run)
        self._resource = _RESOURCES.get(device, "NPU")
        self.nodes = self._look()
        differences = [text for node in self.nodes[1:] for text in node.unlike(self.nodes[0])]
        if differences:
            raise UsageProblem(
                f"The nodes of the cluster differ: {'; '.join(differences)}. Records of one run "
                "need one environment: make the nodes alike, or take some out."
            )

    @property
    def node(self) -> Node:
        """What every node is like."""
        return self.nodes[0]

    @property
    def devices(self) -> int:
        """Devices of the cluster at this moment."""
        return int(self._ray.cluster_resources().get(self._resource, 0))

    def run(
        self, cases: Sequence[Case], settings: RunSettings, retries: int
    ) -> Iterator[Began | Ended]:
        """Run the cases, in whatever order they end; each ends exactly once.

        `retries`: for a case with trouble of the infrastructure.  Raises UsageProblem when no
        node with such a device is left for some minutes.
        """
        waiting = collections.deque(_Try(case) for case in cases)
        running: dict[Any, _Try] = {}
        last_seen = time.monotonic()
        try:
            while waiting or running:
                while waiting and len(running) < self.devices + _AHEAD:
                    attempt = waiting.popleft()
                    running[self._submit(attempt.case, settings)] = attempt
                if self.devices:
                    last_seen = time.monotonic()
                elif time.monotonic() - last_seen > _WAIT_SECONDS:
                    raise UsageProblem(
                        f"The cluster has had no {self._resource} for {_WAIT_SECONDS:g} s: "
                        f"{len(waiting) + len(running)} cases are left. Add a node, then give "
                        "--resume."
                    )
                ready, _ = self._ray.wait(list(running), timeout=1.0) if running else ([], [])
                for task in ready:
                    event = self._next(task)
                    if isinstance(event, Began):
                        yield Began(running[task].case.id, shown.line(str(event.device)))
                        continue
                    attempt = running.pop(task)
                    ended = self._settle(attempt, event, retries)
                    if ended is None:
                        waiting.append(attempt)
                    else:
                        yield ended
        finally:
            for task in running:
                self._ray.cancel(task, force=True)

    def close(self) -> None:
        """Leave the cluster as it was."""
        self._ray.shutdown()

    def _submit(self, case: Case, settings: RunSettings) -> Any:
        task = self._run.options(**self._needs())
        return task.remote(case, settings, self.node, self.device)

    def _next(self, task: Any) -> Event | Exception:
        """What a task says next, or how it was lost."""
        try:
            event: Event = self._ray.get(next(task))
        except Exception as error:  # Ray's own, and whatever unpickling raises
            return error
        if isinstance(event, Began | Refused | Ended):
            return event
        return TypeError(f"the node sent a {type(event).__name__}")

    def _settle(
        self, attempt: _Try, event: Refused | Ended | Exception, retries: int
    ) -> Ended | None:
        """The end of a case, or None when it is to be tried again."""
        if isinstance(event, Ended):
            emulated = self.node.choice.spec.emulated
            event = cluster_task.sound(event, attempt.case, emulated=emulated)
            record = event.record
            if not record.status.is_error or attempt.number > retries:
                notes = [*record.notes, *attempt.notes]
                return dataclasses.replace(event, record=record.model_copy(update={"notes": notes}))
            reason = f"on {event.device}: {record.status.value}: {record.reason}"
        else:
            reason = event.reason if isinstance(event, Refused) else _describe(event)
            attempt.lost += 1
            if attempt.lost > _LOST_RETRIES:
                return Ended(self._lost(attempt, event, reason), "", {})
        attempt.notes.append(f"Attempt {attempt.number} came to no verdict: {reason}")
        attempt.number += 1
        return None

    def _lost(self, attempt: _Try, event: Refused | Exception, reason: str) -> CaseRecord:
        """The record of a case that never came to one."""
        if isinstance(event, Refused):
            status = Status.ERROR_DEVICE
        elif isinstance(event, self._ray.exceptions.OutOfMemoryError):
            status = Status.ERROR_OOM
        else:
            status = Status.ERROR_CRASH
        return CaseRecord(
            case_id=attempt.case.id,
            case=attempt.case,
            status=status,
            stage=Stage.LOAD if isinstance(event, Refused) else None,
            reason=f"No node came to a record in {attempt.lost} attempts, at last: {reason}",
            emulated=self.node.choice.spec.emulated,
            notes=attempt.notes,
        )

    def _hosts(self) -> list[dict[str, Any]]:
        """The living nodes that have such a device, as Ray describes them."""
        return [
            node
            for node in self._ray.nodes()
            if node["Alive"] and node["Resources"].get(self._resource)
        ]

    def _needs(self) -> dict[str, Any]:
        """What a task takes: one device, and its part of the cores."""
        totals = [node["Resources"] for node in self._hosts()]
        # Ray lets a task's OpenMP have as many threads.
        cores = min(
            (int(total.get("CPU", 1) // total[self._resource]) for total in totals), default=1
        )
        needs: dict[str, Any] = {"num_cpus": max(1, cores)}
        if self._resource == "GPU":
            needs["num_gpus"] = 1
        elif self._resource != "CPU":
            needs["resources"] = {self._resource: 1}
        return needs

    def _look(self) -> list[Node]:
        """Ask each node that has such a device; raises UsageProblem when none has."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes = self._hosts()
        if not nodes:
            raise UsageProblem(
                f"No node of the cluster has a resource {self._resource}: start Ray on the hosts "
                f"with devices, with --resources='{{\"{self._resource}\": 8}}' where it does not "
                "find them itself."
            )
        look = self._ray.remote(**self._needs(), max_retries=0)(cluster_task.look)
        asked = [
            look.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(self.device)
            for node in nodes
        ]
        try:
            found: list[Node] = self._ray.get(asked, timeout=_LOOK_SECONDS)
        except self._ray.exceptions.GetTimeoutError:
            hosts = ", ".join(node["NodeManagerHostname"] for node in nodes)
            raise UsageProblem(
                f"Not every node of the cluster ({hosts}) had a free {self._resource} within "
                f"{_LOOK_SECONDS:g} s: wait for other jobs to end."
            ) from None
        except self._ray.exceptions.RayTaskError as error:
            raise UsageProblem(f"A node of the cluster: {error.cause}") from None
        return found


def _connect(address: str) -> Any:
    try:
        import ray
    except ImportError:
        raise UsageProblem(
            "--ray needs Ray, which is not installed: pip install 'npu-accuracy-harness[ray]'."
        ) from None
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise UsageProblem(
            f"--ray {address}: give host:port, as `ray start --head` prints it, on a host of the "
            "cluster."
        )
    package = ROOT / "harness"
    try:
        # Ray itself would try for minutes.
        socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(
            address=address,
            # The nodes run this very harness; they need its dependencies installed.
            runtime_env={"py_modules": [str(package)], "excludes": ["**/__pycache__/**"]},
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageProblem(
            f"No Ray cluster at --ray {address}: {error}. Start one with `ray start --head`, or "
            "give another address."
        ) from None
    return ray


def _describe(error: Exception) -> str:
    """How a task was lost, in a line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"
