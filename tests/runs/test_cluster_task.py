from __future__ import annotations

from harness.cases.case import Case, InputSource, ModelSource
from harness.devices.choice import Choice
from harness.devices.spec import DeviceSpec
from harness.runs import cluster_task
from harness.runs.cluster_task import Node
from harness.system.files import ROOT


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
