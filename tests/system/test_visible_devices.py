import pytest

from harness.devices import leases
from harness.devices.spec import parse
from harness.system import visible_devices
from harness.system.status import UsageProblem


@pytest.mark.parametrize("text", ["1,0", "0,0", "a", "0,,1", "-1", "0-3"])
def test_a_badly_written_choice_of_devices_is_one_sentence(monkeypatch, text):
    monkeypatch.setenv(visible_devices.VARIABLE, text)
    with pytest.raises(UsageProblem, match="ascending device numbers"):
        leases.devices_of("npu-emulated")


def test_the_emulator_shows_only_what_the_caller_chose(monkeypatch):
    monkeypatch.setenv(visible_devices.VARIABLE, "3,5")
    assert leases.devices_of("npu-emulated") == ["3", "5"]
    assert parse("npu-emulated:1").index == 1
    with pytest.raises(UsageProblem, match="2 devices of the emulator are visible"):
        parse("npu-emulated:2")
    monkeypatch.setenv(visible_devices.VARIABLE, "9")
    with pytest.raises(UsageProblem, match="no device of the emulator"):
        leases.devices_of("npu-emulated")
