"""What a pytest run keeps of the Ray cluster that its cases run on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pytest

from harness.cases.case import Case
from harness.entry.pytest_plugin import options
from harness.records.lines import CaseRecord
from harness.runs.session import Session
from harness.system.status import UsageProblem

if TYPE_CHECKING:
    from harness.runs.cluster import Cluster

_CLUSTER: pytest.StashKey[Cluster] = pytest.StashKey()
_RECORDS: pytest.StashKey[dict[str, CaseRecord]] = pytest.StashKey()


def of(config: pytest.Config) -> Cluster | None:
    """The cluster, reached on first use; None without --ray.  Raises UsageProblem."""
    if options.get(config, "ray") is None:
        return None
    if _CLUSTER not in config.stash:
        if config.getoption("numprocesses", None):
            raise UsageProblem("--ray and -n exclude each other: Ray has processes of its own.")
        from harness.runs.cluster import Cluster  # brings Ray in

        config.stash[_CLUSTER] = Cluster(options.get(config, "ray"), options.get(config, "device"))
    return config.stash[_CLUSTER]


def header(config: pytest.Config) -> list[str]:
    """The cluster's hosts."""
    cluster = config.stash.get(_CLUSTER, None)
    if cluster is None:
        return []
    hosts = ", ".join(dict.fromkeys(node.host for node in cluster.nodes))
    said = [f"cluster: {cluster.devices} device(s) on {len(cluster.nodes)} node(s): {hosts}"]
    # Ray has no access control of its own by default, and listens on all of a host's addresses.
    if os.environ.get("RAY_AUTH_MODE") != "token":
        said.append(
            "cluster: without a token whoever reaches its port runs code on all nodes: set "
            "RAY_AUTH_MODE=token (docs/security.md), or keep it in a closed network"
        )
    return said


def sweep(config: pytest.Config, run: Session, cases: Sequence[Case]) -> Iterator[str]:
    """Run the cases on the cluster; gives the id of each when its record is in the results.

    Raises UsageProblem when no node is left.
    """
    from harness.runs.cluster_task import Began

    cluster = of(config)
    assert cluster is not None
    found = config.stash.setdefault(_RECORDS, {})
    for event in cluster.run(cases, run.settings, options.get(config, "retries")):
        if isinstance(event, Began):
            run.record_start(event.case_id, event.device)
        else:
            found[event.case_id] = run.record_end(event.record, event.files)
            yield event.case_id


def swept(config: pytest.Config, case_id: str) -> CaseRecord | None:
    """The record of a case that ran on the cluster."""
    return config.stash.get(_RECORDS, {}).get(case_id)


def leave(config: pytest.Config) -> None:
    """Disconnect from the cluster."""
    cluster = config.stash.get(_CLUSTER, None)
    if cluster is not None:
        cluster.close()
