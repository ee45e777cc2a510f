"""One process per device, references made once, and what a dead process leaves."""

import os
import signal
import subprocess
import sys

import pytest

from harness.devices import leases, npu_probe
from harness.devices.spec import DeviceSpec, parse
from harness.records import results_file
from harness.system import visible_devices
from harness.system.files import ROOT
from harness.system.status import Status, UsageProblem
from tests.makers.cases import entry
from tests.makers.processes import children, wait_for

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


def test_a_cpu_is_never_taken(tmp_path):
    assert leases.devices_of("cpu") == []
    leases.take(DeviceSpec("cpu"), exact=False, directory=tmp_path)
    assert not list(tmp_path.iterdir())


def test_workers_take_their_own_devices_and_share_the_cores(harness_run, copy_of):
    cases = "\n".join(entry(copy_of(name)) for name in "abcd")
    done = harness_run(
        "--device", "npu-emulated", "-n", "2", cases=cases,
        env={visible_devices.VARIABLE: "1,4,6", "OMP_NUM_THREADS": ""},
    )  # fmt: skip
    assert done.code == 0, done.text
    legs = [case.candidate for case in done.run.cases]
    # Which of the three visible ones depends on what other runs on this host hold.
    indices = {leg.device.index for leg in legs}
    assert len(indices) == 2 and indices <= {0, 1, 2}
    assert all(leg.device.emulated for leg in legs)
    threads = {case.reference.timing.threads for case in done.run.cases}
    assert threads == {max(1, len(os.sched_getaffinity(0)) // 2)}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--device", "npu-emulated:1", "-n", "2"), "more processes than the 1 device"),
        (("--device", "npu-emulated", "-n", "9"), "more processes than the 8 device"),
    ],
)
def test_more_processes_than_devices_are_refused(harness_run, copy_of, options, said):
    done = harness_run(*options, cases=entry(copy_of("m")))
    assert done.code == 4
    assert said in done.text
    assert not done.results.exists()


def test_n_auto_is_one_process_per_device(harness_run, copy_of):
    cases = entry(copy_of("a")) + entry(copy_of("b"))
    done = harness_run(
        "--device",
        "npu-emulated",
        "-n",
        "auto",
        "-v",
        cases=cases,
        env={visible_devices.VARIABLE: "7"},
    )
    assert done.code == 0, done.text
    assert "1 worker" in done.text


ASK = """
import sys
from pathlib import Path
from harness.cases.case import Case, InputSource, ModelSource
from harness.devices.spec import DeviceSpec
from harness.execution.settings import RunSettings
from harness.execution.sides import Sides
cache, model = map(Path, sys.argv[1:])
sides = Sides(RunSettings(DeviceSpec("cpu"), cache, reference_cache_size=10**9))
request = sides.request(Case(ModelSource("directory", str(model)), InputSource("synthetic")))
print("ready", flush=True)
sys.stdin.readline()
sides.cpu.reference(request)
sides.cpu.oracle(request)
print(sides.cpu.computed, flush=True)
"""


def test_processes_that_need_one_reference_at_once_compute_it_once(tiny_model, tmp_path):
    command = [sys.executable, "-c", ASK, str(tmp_path), str(tiny_model)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    asking = [subprocess.Popen(command, cwd=ROOT, **pipes) for _ in range(3)]
    for process in asking:
        assert process.stdout.readline() == "ready\n"
    answers = []
    for process in asking:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in asking:
        answers.append(int(process.communicate()[0]))
        assert process.returncode == 0
    assert sum(answers) == 2  # the reference and the oracle, each by one of them


def test_a_worker_that_dies_leaves_complete_records(start, copy_of, tmp_path):
    names = [f"m{number}" for number in range(6)]
    process = start("\n".join(entry(copy_of(name)) for name in names), "-n", "2")
    path = tmp_path / "results" / "results.jsonl"
    run = wait_for(lambda: path.exists() and (run := results_file.read(path)).in_flight and run)
    os.kill(children(process)[0], signal.SIGKILL)
    text = process.communicate()[0]
    run = results_file.read(path)
    assert (run.missing, run.in_flight) == ([], [])
    statuses = [case.status for case in run.cases]
    assert statuses.count(Status.PASS) == 5, text
    (crashed,) = (case for case in run.cases if case.status is not Status.PASS)
    assert crashed.status is Status.ERROR_CRASH
    assert "died" in crashed.reason
    assert process.returncode == run.end.exit_code == 10, text

    # What died is run again, by workers as well, and nothing else is.
    process = start(
        "\n".join(entry(tmp_path / name) for name in names), "-n", "2",
        f"--resume={tmp_path / 'results'}",
    )  # fmt: skip
    text = process.communicate()[0]
    assert process.returncode == 0, text
    assert "1 passed" in text
    again = results_file.read(path)
    assert [case.status for case in again.cases] == [Status.PASS] * 6
    assert again.run.parts == [run.run.run_id]
