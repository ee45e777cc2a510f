import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from harness.devices import dispatcher
from harness.system.status import CaseProblem, Stage, Status


def test_operators_without_a_kernel_are_found_by_asking_the_dispatcher():
    # Meta has kernels or composites for the first three and none for the last.
    executed = [
        "aten::add.Tensor",
        "aten::linear.default",
        "aten::silu.default",
        "aten::_local_scalar_dense.default",
    ]
    assert "aten::_local_scalar_dense.default" not in dispatcher.without_kernel(executed, "CPU")
    missing = dispatcher.without_kernel(executed, "XPU")
    assert "aten::linear.default" not in missing  # composite: runs anywhere
    assert "aten::silu.default" in missing  # structured: needs its own kernel
    assert dispatcher.without_kernel(executed[:3], "Meta") == []
    # An assertion gives nothing and writes nothing: where it runs, no result depends on.
    assert dispatcher.without_kernel(["aten::_assert_async.msg", "aten::relu_.default"], "XPU") == [
        "aten::relu_.default"
    ]


_FALLBACK = """
import json, warnings
warnings.simplefilter("ignore")
import harness, torch
from harness.devices.opening import open_device
from harness.devices.spec import parse
from harness.execution.operators.counter import OperatorCounter
device = open_device(parse("npu-emulated"))
found = []
for _ in range(2):  # torch_npu warns of a fallback only the first time
    with OperatorCounter() as counter:
        x = torch.eye(3).to(device.torch_device)
        torch.linalg.det(x + torch.relu(x))
    found.append(device.fallback_operators(list(counter.counts)))
try:
    torch.nn.GRU(4, 4).to(device.torch_device)(torch.zeros(2, 1, 4, device=device.torch_device))
    problem = None
except Exception as error:
    problem = device.explain(error)
print("\\n" + json.dumps([found, problem and problem.status.value, problem and problem.reason]))
"""


@pytest.mark.slow
def test_the_emulated_npu_names_fallbacks_and_operators_that_it_lacks():
    done = subprocess.run(
        [sys.executable, "-c", _FALLBACK], capture_output=True, text=True, check=True
    )
    found, status, reason = json.loads(done.stdout.strip().splitlines()[-1])
    assert found == [["aten::_linalg_det.default"]] * 2
    assert status == "fail_unsupported"
    assert "DynamicGRUV2" in reason


def test_what_a_device_lacks_is_named_by_the_operator_that_raised_it():
    import torch

    from harness.execution import legs
    from harness.execution.operators import counter

    executed = counter.OperatorCounter()
    with pytest.raises(RuntimeError), executed:
        torch.ones(2, 3).relu() @ torch.ones(2, 3)
    assert executed.failed == "aten::mm.default"
    lacks = CaseProblem(Status.FAIL_UNSUPPORTED, Stage.FORWARD, "npu:0 lacks it")
    broken = CaseProblem(Status.ERROR_DEVICE, Stage.FORWARD, "npu:0 failed")
    for explained, reason in (
        (lacks, "npu:0 lacks it (raised in aten::mm.default)"),
        (broken, "npu:0 failed"),  # it may come from work that was queued before
    ):
        device = SimpleNamespace(explain=lambda error, found=explained: found)
        found = legs.problem(device, RuntimeError(), Stage.FORWARD, executed.failed)
        assert (found.status, found.reason) == (explained.status, reason)
