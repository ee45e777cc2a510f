"""The CPU's side is timed once the device's process has come to rest."""

import dataclasses

import pytest

from harness.devices.spec import DeviceSpec
from harness.execution.worker import DeviceWorker
from harness.system.status import UsageProblem


def test_settling_leaves_what_the_process_says_to_the_next_request(leg_request):
    worker = DeviceWorker(DeviceSpec("cpu"))
    worker.settle()  # nothing was started: nothing to wait for
    assert worker.started_processes == 0 and not worker.starting
    worker.start()
    assert worker.starting
    worker.settle()
    assert not worker.starting
    assert worker.ask(dataclasses.replace(leg_request, repeat=0), 60).outputs
    worker.settle()
    assert worker.started_processes == 1
    worker.stop()


def test_settling_hides_no_failed_start(leg_request):
    worker = DeviceWorker(DeviceSpec("cuda", 77))
    worker.start()
    worker.settle()
    with pytest.raises(UsageProblem, match="(?i)cuda"):
        worker.ask(leg_request, 60)
