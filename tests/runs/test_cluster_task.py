from __future__ import annotations

from types import SimpleNamespace

import pytest

from harness.cases.case import Case, InputSource, ModelSource
from harness.devices.choice import Choice
from harness.devices.spec import DeviceSpec
from harness.entry.pytest_plugin import ray_state
from harness.judgement.localization import Localization
from harness.judgement.verdict import RULES
from harness.records import consistency
from harness.runs import cluster_task
from harness.runs.cluster import Cluster
from harness.runs.cluster_task import Began, Ended, Node
from harness.system.files import ROOT
from harness.system.status import Status
from tests.makers.records import case_record, measured


def test_nodes_are_alike_whose_free_settings_differ() -> None:
    choice = Choice(DeviceSpec("npu-emulated"), "")
    here = Node("a", choice, {"torch": "2.13.0", "OMP_NUM_THREADS": "1"})
    there = Node("b", choice, {"torch": "2.13.0", "OMP_NUM_THREADS": "4"})
    other = Node("c", Choice(DeviceSpec("npu"), ""), {"torch": "2.8.0"})
    assert here.unlike(there) == []
    assert here.unlike(other) == [
        "torch is 2.13.0 on a and 2.8.0 on c",
        "device is npu-emulated on a and npu on c",
    ]


def test_a_node_refuses_a_case_of_another_environment() -> None:
    from harness.execution.settings import RunSettings

    here = cluster_task.look("cpu")
    other = Node("other", here.choice, {**here.environment, "torch": "1.0"})
    settings = RunSettings(DeviceSpec("cpu"), ROOT)
    case = Case(ModelSource("architecture", "test_resnet"), InputSource("synthetic"))
    events = list(cluster_task.run(case, settings, other, "cpu"))
    assert [type(event) for event in events] == [cluster_task.Refused]
    assert "torch" in events[0].reason


CASE = Case(ModelSource("architecture", "m"), InputSource("synthetic"))
NAME = f"reproducers/{CASE.id}/0001-conv.py"


def sent(**changes: object) -> Ended:
    """What an honest node sends, changed."""
    found = Localization(reproducers=(NAME,))
    record = case_record("m", localization=found)
    honest = {"record": record, "device": "host/cpu", "files": {NAME: b"x"}}
    return Ended(**{**honest, **changes})  # type: ignore[arg-type]


def test_what_an_honest_node_sends_is_taken() -> None:
    assert cluster_task.sound(sent(), CASE, emulated=False) == sent()


BAD = {
    "no record": (sent(record="pass"), "no attribute"),
    "another case": (sent(record=case_record("other")), "it is of other"),
    "a forged field": (
        sent(record=case_record("m").model_copy(update={"status": "fine"})), "status"),
    "a forged reproducer": (
        sent(record=case_record("m").model_copy(
            update={"localization": Localization(reproducers=("conftest.py",))})),
        "no name of a reproducer"),
    "a status": (sent(record=measured(9.0).model_copy(update={"rules": RULES})), "contradicts"),
    "emulated": (sent(record=case_record("m", emulated=True)), "emulated is True"),
    "a file": (sent(files={"../conftest.py": b"x"}), "does not name"),
    "no files": (sent(files=7), "not iterable"),
    "no bytes": (sent(files={NAME: "x"}), "no bytes"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_of_a_node_is_that_case_s_error(name: str) -> None:
    bad, why = BAD[name]
    ended = cluster_task.sound(bad, CASE, emulated=False)
    assert ended.record.status is Status.ERROR_HARNESS and ended.case_id == CASE.id
    assert why in ended.record.reason and "host/cpu" in ended.record.reason
    assert ended.files == {} and consistency.of_case(ended.record, None) == ""


class OneProcess:
    """In Ray's place: every task is an iterator of what a node says."""

    exceptions = type("exceptions", (), {"OutOfMemoryError": MemoryError})

    def __init__(self, said: list[list[object]]) -> None:
        self.said = said

    def cluster_resources(self) -> dict[str, int]:
        return {"CPU": 2}

    def wait(self, tasks: list[object], timeout: float) -> tuple[list[object], list[object]]:
        return tasks[:1], tasks[1:]

    def get(self, thing: object) -> object:
        if isinstance(thing, Exception):
            raise thing
        return thing

    def cancel(self, task: object, force: bool) -> None:
        pass


def test_a_bad_node_costs_its_case_and_not_the_sweep() -> None:
    cases = [Case(ModelSource("architecture", name), InputSource("synthetic")) for name in "abc"]
    records = [case_record(name) for name in "abc"]
    device = "host/cpu\x1b]0;x\x07"
    ray = OneProcess([
        [Began("another", device), Ended("no record", device, {})],  # type: ignore[arg-type]
        [Began("b", device), Ended(records[1], device, {})],
        [ValueError("cannot be unpickled")],
        ["no event"],
        [Ended(records[2], device, {})],
    ])  # fmt: skip
    cluster = Cluster.__new__(Cluster)
    cluster._ray, cluster._resource = ray, "CPU"
    cluster.nodes = [Node("host", Choice(DeviceSpec("cpu"), ""), {})]
    cluster._submit = lambda case, settings: iter(ray.said.pop(0))  # type: ignore[method-assign]
    events = list(cluster.run(cases, None, retries=0))  # type: ignore[arg-type]
    began = [event for event in events if isinstance(event, Began)]
    assert [event.case_id for event in began] == [cases[0].id, cases[1].id]
    assert all(event.device.isprintable() for event in began)
    ended = {event.case_id: event.record for event in events if isinstance(event, Ended)}
    assert [ended[case.id].status.value for case in cases] == ["error_harness", "pass", "pass"]
    assert len(ended[cases[2].id].notes) == 2  # two tries came to nothing


@pytest.mark.parametrize(("mode", "said"), [("", True), ("disabled", True), ("token", False)])
def test_a_sweep_without_a_token_says_who_runs_code(mode, said, monkeypatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    node = Node("host", Choice(DeviceSpec("cpu"), ""), {})
    cluster = SimpleNamespace(nodes=[node], devices=1)
    config = SimpleNamespace(stash={ray_state._CLUSTER: cluster})
    lines = "\n".join(ray_state.header(config))  # type: ignore[arg-type]
    assert ("whoever reaches its port runs code" in lines) is said
