"""A sweep over a Ray cluster: real Ray, several nodes on this host, emulated NPUs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from harness.records import results_file
from harness.system.files import ROOT
from harness.system.status import ExitCode, Status

pytestmark = pytest.mark.cluster  # Ray, with several nodes on this host

CASES = "".join(
    f'[[case]]\narchitecture = "{name}"\nnumerics = ["strict"]\n'
    for name in ("test_resnet", "test_vit", "test_byobnet", "test_efficientnet", "test_vit3")
)


@pytest.fixture
def cluster(cache_dir, monkeypatch):
    """A head without devices; the test adds nodes."""
    utils = pytest.importorskip("ray.cluster_utils")
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(cache_dir))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    small = {"object_store_memory": 100 << 20, "num_gpus": 0}
    head = utils.Cluster(
        initialize_head=True,
        head_node_args={**small, "num_cpus": 0, "include_dashboard": False},
    )

    def add(devices: str, **environ: str):
        count = len(devices.split(","))
        return head.add_node(
            **small,
            num_cpus=count,
            resources={"NPU": count},
            env_vars={"ASCEND_RT_VISIBLE_DEVICES": devices, **environ},
        )

    head.add = add
    yield head
    head.shutdown()


def start(cluster, tmp_path, *options: str) -> subprocess.Popen[str]:
    (tmp_path / "cases.toml").write_text(CASES, encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, "-m", "harness", "sweep", "--ray", cluster.address,
         "--device", "npu-emulated", "--case-file", str(tmp_path / "cases.toml"),
         "--results", str(tmp_path / "results"), "--localize", "never",
         "-p", "no:cacheprovider", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def lines(tmp_path, kind: str) -> list[dict]:
    path = tmp_path / "results" / "results.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [found for line in text.splitlines() if (found := json.loads(line))["type"] == kind]


def test_a_killed_node_and_a_crash_cost_no_case(cluster, tmp_path) -> None:
    cluster.add("0")
    doomed = cluster.add("5")
    plan = tmp_path / "plan.json"
    fault = {"kind": "abort", "operator": "*", "first": 3, "cases": "test_vit3-*"}
    plan.write_text(json.dumps({"faults": [fault]}))
    html = tmp_path / "report.html"
    run = start(
        cluster, tmp_path, "--fault-plan", str(plan), f"--html={html}", "--self-contained-html"
    )

    def in_flight() -> list[str]:
        ended = {case["case_id"] for case in lines(tmp_path, "case")}
        return [
            line["case_id"]
            for line in lines(tmp_path, "start")
            if line["device"].endswith("npu-emulated:5") and line["case_id"] not in ended
        ]

    while not (caught := in_flight()):
        assert run.poll() is None, run.communicate()[0]
        time.sleep(0.05)
    cluster.remove_node(doomed, allow_graceful=False)
    text, _ = run.communicate(timeout=500)

    found = results_file.read(tmp_path / "results" / "results.jsonl")
    assert found.missing == [] and len(found.cases) == 5, text
    cases = {case.case.model.name: case for case in found.cases}
    crashed = cases.pop("test_vit3")
    assert crashed.status is Status.ERROR_CRASH
    assert "Attempt 1 came to no verdict" in crashed.notes[-1]
    assert {case.status for case in cases.values()} == {Status.PASS}
    again = [case for case in found.cases if case.case_id == caught[0]]
    assert any("Attempt 1 came to no verdict" in note for note in again[0].notes), text
    assert run.returncode == ExitCode.INFRASTRUCTURE, text
    assert found.run is not None and found.run.emulated
    assert "cluster: 2 device(s) on 2 node(s)" in text
    assert all(case.case_id in html.read_text(encoding="utf-8") for case in found.cases)


def test_nodes_that_differ_are_refused(cluster, tmp_path) -> None:
    cluster.add("0")
    cluster.add("1", TASK_QUEUE_ENABLE="2")
    run = start(cluster, tmp_path)
    text, _ = run.communicate(timeout=200)
    assert run.returncode == ExitCode.USAGE
    assert "The nodes of the cluster differ: " in text and "TASK_QUEUE_ENABLE" in text


def test_without_a_cluster_it_says_so(tmp_path) -> None:
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    for given, said in (
        (address, f"No Ray cluster at --ray {address}"),
        ("auto", "give host:port"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "harness", "sweep", "--ray", given, "--device", "cpu",
             "--results", str(tmp_path)],
            cwd=ROOT, capture_output=True, text=True, env=os.environ, check=False,
        )  # fmt: skip
        assert done.returncode == ExitCode.USAGE
        assert said in done.stderr
