import os
import signal

import pytest

from harness.records import results_file
from harness.system import visible_devices
from harness.system.status import Status
from tests.makers.cases import entry
from tests.makers.processes import children, wait_for


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
