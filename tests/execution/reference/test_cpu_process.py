"""The CPU's side in its own process says what it would say in this one."""

import dataclasses

import numpy as np
import pytest

from harness.cases.case import InputSource, ModelSource
from harness.cases.models.model_files import ModelFiles
from harness.devices.spec import DeviceSpec
from harness.execution.reference.cpu_process import CpuProcess
from harness.execution.reference.cpu_side import CpuSide
from harness.execution.settings import RunSettings
from harness.judgement.arithmetic import Arithmetic
from harness.system.status import CaseProblem, Status

pytestmark = pytest.mark.slow  # one process with torch and timm


@pytest.fixture(scope="module")
def cpu(cache_dir):
    """The process, and how often it waited for quiet."""
    waits = []
    made = CpuProcess(RunSettings(DeviceSpec("cpu"), cache_dir), lambda: waits.append(True))
    yield made, waits
    made.worker.stop()


def test_every_answer_is_that_of_the_cpu_side(cpu, leg_request, tiny_model):
    there, waits = cpu
    here = CpuSide()
    declared = Arithmetic("bfloat16")
    found, wanted = there.answers(leg_request, declared), here.answers(leg_request, declared)
    assert found.as_asked is None and wanted.as_asked is None
    assert not waits
    pairs = [
        (found.reference.outputs, wanted.reference.outputs),
        (found.oracle, wanted.oracle),
        *zip(found.budget.runs, wanted.budget.runs, strict=True),
        (there.oracle(leg_request, "tanh"), here.oracle(leg_request, "tanh")),
        (there.plain(leg_request, "").outputs, here.plain(leg_request, "").outputs),
        (
            there.planted(leg_request, Arithmetic(), None, onednn=False).outputs,
            here.planted(leg_request, Arithmetic(), None, onednn=False).outputs,
        ),
    ]
    for one, other in pairs:
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)
    assert found.reference.weights == wanted.reference.weights
    there.reference(leg_request)
    assert waits == [True]  # its forwards are timed


def test_a_case_is_prepared_there(cpu, tiny_model):
    there, _ = cpu
    images = InputSource("synthetic", count=2)
    model, found = there.prepare(ModelSource("directory", str(tiny_model)), images)
    assert model == ModelFiles(tiny_model)
    assert found.count == 2 and found.path.is_file()
    with pytest.raises(CaseProblem) as caught:
        there.prepare(ModelSource("directory", str(tiny_model / "nowhere")), images)
    assert caught.value.status is Status.FAIL_LOAD
    wrong = dataclasses.replace(images, kind="images", path="nowhere.png")
    with pytest.raises(CaseProblem, match="nowhere.png"):
        there.prepare(ModelSource("directory", str(tiny_model)), wrong)
