"""Throughput of one side: what stops it, and what is then said."""

import dataclasses
import json

import pytest

from harness.cases.models.model_files import ModelFiles
from harness.devices.spec import DeviceSpec
from harness.execution import batch_timing, throughput
from harness.execution.batch_timing import MeasureRequest
from harness.execution.worker import DeviceWorker
from harness.records.throughput import ThroughputPlan
from harness.system.status import CaseProblem, Stage, Status
from tests.makers.throughput import check


@pytest.fixture(scope="module")
def workers():
    made = [DeviceWorker(DeviceSpec("cpu")), DeviceWorker(DeviceSpec("npu-emulated"))]
    yield made
    for worker in made:
        worker.stop()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "first", "second"),
    [
        ({"kind": "abort"}, "error_crash", "not measured: batch 1 ended as error_crash"),
        ({"kind": "hang"}, "error_timeout", "not measured: batch 1 ended as error_timeout"),
        ({"kind": "out_of_memory"}, "error_oom", "error_oom"),  # another batch might fit
    ],
)
def test_faults_of_the_device_are_named_in_their_row(leg_request, workers, fault, first, second):
    # The fifth forward at the latest, whatever the speed: first call, warm-up, three timed ones.
    plan = json.dumps({"faults": [{"operator": "Addmm", "first": 5, **fault}]})
    found = throughput.measure(
        ThroughputPlan((1, 2), 1.0),
        dataclasses.replace(leg_request, fault_plan=plan),
        *workers,
        timeout=30,
    )
    assert [row.device for row in found.rows] == [None, None]
    assert found.rows[0].device_problem.startswith(first)
    assert found.rows[1].device_problem.startswith(second)
    for row in found.rows:
        check(row.cpu, cpu=True)


def test_a_budget_is_shared_and_what_was_not_tried_is_said(leg_request):
    from harness.devices.cpu import CpuDevice

    found = batch_timing.run(
        CpuDevice(), MeasureRequest(leg_request, 3, 1e-6, 0.02), lambda stage: None
    )
    check(found, cpu=True)
    assert found.wall.repeats == 3 and not found.stable
    assert [setting.seconds is None for setting in found.search[:2]] == [False, True]
    assert all("not tried" in setting.note for setting in found.search[1:])


def test_a_layout_that_a_model_refuses_is_said(leg_request, monkeypatch):
    import torch

    from harness.devices.cpu import CpuDevice

    class Stubborn(torch.nn.Module):
        def forward(self, images):
            return images.view(len(images), -1).sum(1)

    real = ModelFiles.load
    monkeypatch.setattr(
        ModelFiles,
        "load",
        lambda self: dataclasses.replace(real(self), model=Stubborn()),
    )
    found = batch_timing.run(
        CpuDevice(), MeasureRequest(leg_request, 2, 1.0, 0.02), lambda stage: None
    )
    assert found.setting.layout == "contiguous"
    failed = [setting for setting in found.search if setting.layout == "channels_last"]
    assert failed and all(setting.note.startswith("failed: view size") for setting in failed)
    assert torch.backends.mkldnn.enabled


def test_a_model_that_runs_in_no_setting_has_a_status(leg_request, monkeypatch):
    import torch

    from harness.devices.cpu import CpuDevice

    class Broken(torch.nn.Module):
        def forward(self, images):
            raise RuntimeError("no such thing")

    real = ModelFiles.load
    monkeypatch.setattr(
        ModelFiles, "load", lambda self: dataclasses.replace(real(self), model=Broken())
    )
    stages = []
    with pytest.raises(CaseProblem, match="no such thing") as caught:
        batch_timing.run(CpuDevice(), MeasureRequest(leg_request, 2, 1.0, 0.02), stages.append)
    assert caught.value.status is Status.FAIL_REFERENCE
    assert stages == [Stage.LOAD, Stage.TRANSFER, Stage.FORWARD]
