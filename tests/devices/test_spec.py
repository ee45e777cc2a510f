import pytest

from harness.devices.spec import DeviceSpec, parse
from harness.system.status import UsageProblem


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
