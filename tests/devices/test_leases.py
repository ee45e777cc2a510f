"""One process per device, and what a dead process leaves."""

import subprocess
import sys

import pytest

from harness.devices import leases, npu_probe
from harness.devices.spec import DeviceSpec
from harness.system import visible_devices
from harness.system.files import ROOT
from harness.system.status import UsageProblem

NPU = DeviceSpec("npu")


@pytest.fixture
def eight_npus(monkeypatch):
    """A host with eight NPUs, as far as taking them goes; the caller's choice is respected."""

    def count() -> npu_probe.Probe:
        numbers = visible_devices.npu_ids()
        return npu_probe.Probe(8 if numbers is None else len(numbers))

    monkeypatch.delenv(visible_devices.VARIABLE, raising=False)
    monkeypatch.setattr(npu_probe, "probe", count)


def test_each_lease_is_another_device_until_none_is_left(eight_npus, tmp_path):
    taken = [leases.take(NPU, exact=False, directory=tmp_path) for _ in range(8)]
    assert [lease.spec.index for lease in taken] == list(range(8))
    with pytest.raises(UsageProblem, match=r"All 8 visible devices \(npu\) are in use"):
        leases.take(NPU, exact=False, directory=tmp_path)
    with pytest.raises(UsageProblem, match="npu:5 is in use"):
        leases.take(DeviceSpec("npu", 5), exact=True, directory=tmp_path)
    taken[5].release()
    assert leases.take(NPU, exact=False, directory=tmp_path).spec.index == 5


def test_the_lock_is_on_the_host_s_number_not_on_the_place_in_the_list(
    eight_npus, tmp_path, monkeypatch
):
    held = leases.take(DeviceSpec("npu", 6), exact=True, directory=tmp_path)
    monkeypatch.setenv(visible_devices.VARIABLE, "2,6,7")
    assert leases.devices_of("npu") == ["2", "6", "7"]
    with pytest.raises(UsageProblem, match="npu:1 is in use"):
        leases.take(DeviceSpec("npu", 1), exact=True, directory=tmp_path)
    rest = [leases.take(NPU, exact=False, directory=tmp_path) for _ in range(2)]
    assert [lease.spec.index for lease in rest] == [0, 2]
    held.release()


def test_a_lease_ends_with_its_process_however_that_ends(tmp_path):
    hold = (
        "import sys, time; from pathlib import Path; from harness.devices import leases\n"
        "from harness.devices.spec import DeviceSpec\n"
        "spec = DeviceSpec('npu-emulated')\n"
        "lease = leases.take(spec, exact=False, directory=Path(sys.argv[1]))\n"
        "print(lease.spec.index, flush=True); time.sleep(60)\n"
    )
    emulated = DeviceSpec("npu-emulated")
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "0\n"
        second = leases.take(emulated, exact=False, directory=tmp_path)
        assert second.spec.index == 1
        process.kill()
    assert leases.take(emulated, exact=False, directory=tmp_path).spec.index == 0


def test_a_cpu_is_never_taken(tmp_path):
    assert leases.devices_of("cpu") == []
    leases.take(DeviceSpec("cpu"), exact=False, directory=tmp_path)
    assert not list(tmp_path.iterdir())
