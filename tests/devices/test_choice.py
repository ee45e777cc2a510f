import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.devices import dispatcher, npu_probe
from harness.devices.choice import choose
from harness.devices.npu_probe import Probe
from harness.devices.spec import DeviceSpec, parse
from harness.execution.settings import RunSettings
from harness.execution.sides import Sides
from harness.system.status import CaseProblem, Stage, Status, UsageProblem


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("cpu", DeviceSpec("cpu")),
        ("npu", DeviceSpec("npu", 0)),
        ("npu:3", DeviceSpec("npu", 3)),
        (" npu-emulated:7 ", DeviceSpec("npu-emulated", 7)),
        ("cuda:1", DeviceSpec("cuda", 1)),
    ],
)
def test_devices_as_written(text, spec):
    assert parse(text) == spec
    assert parse(str(spec)) == spec


@pytest.mark.parametrize("text", ["", "tpu", "npu:", "npu:x", "npu:-1", "cpu:1", "NPU", "npu 1"])
def test_unknown_devices_name_the_known_ones(text):
    with pytest.raises(UsageProblem, match="give one of auto, cpu, npu, npu-emulated, cuda"):
        parse(text)


def test_the_emulator_has_eight_devices():
    with pytest.raises(UsageProblem, match="npu-emulated:0 to npu-emulated:7"):
        parse("npu-emulated:8")


def found(monkeypatch, probe: Probe) -> None:
    monkeypatch.setattr(npu_probe, "probe", lambda: probe)
    monkeypatch.setattr(npu_probe, "require_torch_npu", lambda: None)


def test_auto_takes_a_real_npu_where_there_is_one(monkeypatch):
    found(monkeypatch, Probe(8))
    choice = choose("auto")
    assert choice.spec == DeviceSpec("npu", 0)
    assert "8 NPU(s) found" in choice.reason


def test_auto_takes_the_emulated_one_otherwise_and_says_why(monkeypatch):
    found(monkeypatch, Probe(0, "CANN is not sourced", "long text"))
    choice = choose("auto")
    assert choice.spec.emulated
    assert "CANN is not sourced" in choice.reason


def test_npu_never_falls_back(monkeypatch):
    found(monkeypatch, Probe(0, "short", "The remedy."))
    with pytest.raises(UsageProblem, match="The remedy."):
        choose("npu")


def test_an_index_beyond_the_visible_npus(monkeypatch):
    found(monkeypatch, Probe(2))
    assert choose("npu:1").spec.index == 1
    with pytest.raises(UsageProblem, match="No device npu:9: 2 NPU"):
        choose("npu:9")


def test_without_torch_npu_the_remedy_is_one_command(monkeypatch):
    monkeypatch.setattr(npu_probe, "has_torch_npu", lambda: False)
    for device in ("npu", "npu-emulated", "auto"):
        with pytest.raises(UsageProblem, match=r"pip install torch==\S+ torch_npu==\S+"):
            choose(device)


def test_torch_npu_without_cann_says_what_to_source(monkeypatch):
    monkeypatch.setattr(npu_probe, "_cann_visible", lambda: False)
    with pytest.raises(UsageProblem, match="source .*set_env.sh"):
        choose("npu")


def probe_with(cann: Path) -> Probe:
    """The real probe in a process that finds these libraries."""
    code = (
        "import harness; from harness.devices import npu_probe; p = npu_probe.probe();"
        "print(p.devices, p.short, sep='|')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "LD_LIBRARY_PATH": str(cann),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    devices_text, _, short = done.stdout.strip().splitlines()[-1].partition("|")
    return Probe(int(devices_text), short)


def test_cann_that_does_not_load_is_told_apart_from_no_device(tmp_path):
    (tmp_path / "libhccl.so").write_text("not a library")
    found = probe_with(tmp_path)
    assert found.devices == 0
    assert found.short == "torch_npu does not load"


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
    torch.nn.LSTM(4, 4).to(device.torch_device)(torch.zeros(2, 1, 4, device=device.torch_device))
    problem = None
except Exception as error:
    problem = device.explain(error)
print("\\n" + json.dumps([found, problem and problem.status.value, problem and problem.reason]))
"""


def test_the_emulated_npu_names_fallbacks_and_operators_that_it_lacks():
    done = subprocess.run(
        [sys.executable, "-c", _FALLBACK], capture_output=True, text=True, check=True
    )
    found, status, reason = json.loads(done.stdout.strip().splitlines()[-1])
    assert found == [["aten::_linalg_det.default"]] * 2
    assert status == "fail_unsupported"
    assert "DynamicRNN" in reason


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


@pytest.mark.parametrize(("allowed", "statuses"), [(False, [Status.FAIL_FALLBACK]), (True, [])])
def test_a_fallback_fails_the_case_unless_it_is_allowed(tmp_path, allowed, statuses):
    settings = RunSettings(DeviceSpec("cpu"), tmp_path, allow_cpu_fallback=allowed)
    leg = SimpleNamespace(unstable=(), record=SimpleNamespace(fallback_operators=["aten::x"]))
    findings = Sides(settings)._leg_findings(leg, leg)
    assert [finding.status for finding in findings] == statuses


def test_unstable_outputs_are_flaky(tmp_path):
    sides = Sides(RunSettings(DeviceSpec("cpu"), tmp_path))
    record = SimpleNamespace(fallback_operators=[])
    stable = SimpleNamespace(unstable=(), record=record)
    unstable = SimpleNamespace(unstable=("output",), record=record)
    assert [f.status for f in sides._leg_findings(stable, unstable)] == [Status.FLAKY]
    assert [f.status for f in sides._leg_findings(unstable, stable)] == [Status.FAIL_REFERENCE]


@pytest.mark.parametrize(
    ("text", "cuda"),
    [
        ("cuda: Optional[str] = '13.0'\nhip = None\n", "13.0"),
        ("cuda = '12.8'\n", "12.8"),
        ("cuda: Optional[str] = None\n", None),
        ("debug = False\n", None),
    ],
)
def test_a_cuda_build_of_torch_is_refused_on_a_real_npu(monkeypatch, tmp_path, text, cuda):
    (tmp_path / "version.py").write_text(text)
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(npu_probe.importlib.util, "find_spec", lambda name: spec)
    assert npu_probe.cuda_build() == cuda
    assert choose("npu-emulated").spec.emulated  # the emulator makes room for torch_npu
    npu_probe.probe.cache_clear()
    monkeypatch.setattr(npu_probe, "_cann_visible", lambda: False)
    try:
        with pytest.raises(UsageProblem, match=f"CUDA {cuda}.*CPU build" if cuda else "CANN"):
            choose("npu")
    finally:
        npu_probe.probe.cache_clear()
