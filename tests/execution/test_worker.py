"""A side's process crashes, hangs or fails: one request pays for it, and the next is answered."""

import dataclasses
import functools
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from harness.devices.spec import DeviceSpec
from harness.execution import worker as workers
from harness.execution.reference.cache import ReferenceCacheWarning
from harness.execution.worker import DeviceWorker
from harness.system import control_group, process
from harness.system.files import ROOT
from harness.system.status import CaseProblem, Stage, Status, UsageProblem
from tests.makers import requests
from tests.makers.processes import alive, wait_for
from tests.makers.requests import Calls, Unpacks

pytestmark = pytest.mark.slow  # a crash costs the start of a process, with torch and timm

PID = Calls(os.getpid)


@pytest.fixture(scope="module")
def shared():
    """One worker for all tests that ask one on the CPU: each finds it fit to answer."""
    worker = DeviceWorker(DeviceSpec("cpu"))
    yield worker
    worker.stop()


@pytest.fixture
def worker(shared):
    """The shared worker, its process ready."""
    shared.ask(PID, 60)
    return shared


@pytest.fixture
def begun():
    """Start a worker with any device, and end it with the test."""
    made = []

    def begin(device) -> DeviceWorker:
        made.append(DeviceWorker(device))
        return made[-1]

    yield begin
    for one in made:
        one.stop()


def problem_of(worker: DeviceWorker, request, timeout: float = 60) -> CaseProblem:
    with pytest.raises(CaseProblem) as caught:
        worker.ask(request, timeout)
    return caught.value


def test_requests_are_answered_by_one_process(worker):
    before = worker.started_processes
    assert worker.ask(PID, 60) == worker.ask(PID, 60) != os.getpid()
    assert worker.started_processes == before


@pytest.mark.parametrize(
    ("request_", "how"),
    [
        (Calls(os.abort), "SIGABRT"),
        (Calls(functools.partial(signal.raise_signal, signal.SIGKILL)), "SIGKILL"),
        (Calls(functools.partial(os._exit, 7)), "exit code 7"),
        (Calls(functools.partial(os._exit, 0)), "exit code 0"),
    ],
    ids=["abort", "kill", "exit 7", "exit 0"],
)
def test_a_crash_costs_the_request_and_names_how_and_where(worker, request_, how):
    pid, before = worker.ask(PID, 60), worker.started_processes
    problem = problem_of(worker, request_)
    assert (problem.status, problem.stage) == (Status.ERROR_CRASH, Stage.FORWARD)
    assert f"The process of cpu died ({how}) in stage forward" in problem.reason
    assert not alive(pid)
    assert worker.ask(PID, 60) != pid
    assert worker.started_processes == before + 1


def test_a_crash_keeps_the_last_lines_that_were_printed(worker):
    problem = problem_of(worker, Calls(requests.prints_and_aborts))
    assert problem.status is Status.ERROR_CRASH
    lines = problem.log_tail.splitlines()
    assert lines == [*(f"line {number}" for number in range(10, 29)), "torn \ufffd"]


def test_a_process_that_died_unasked_is_found_by_the_next_request(worker):
    pid = worker.ask(PID, 60)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not alive(pid))
    problem = problem_of(worker, PID)
    assert (problem.status, problem.stage) == (Status.ERROR_CRASH, Stage.LOAD)
    assert "SIGKILL" in problem.reason
    assert worker.ask(PID, 60) != pid


def test_a_hanging_request_ends_at_its_limit_with_all_that_it_started(worker, tmp_path):
    path = tmp_path / "pids"
    before, begun = worker.started_processes, time.monotonic()
    problem = problem_of(
        worker, Calls(functools.partial(requests.hangs_with_a_child, str(path))), 3
    )
    assert 3 <= time.monotonic() - begun < 60
    assert (problem.status, problem.stage) == (Status.ERROR_TIMEOUT, Stage.FORWARD)
    assert "No answer from cpu within 3 s, in stage forward" in problem.reason
    pids = [int(pid) for pid in path.read_text().split()]
    assert len(pids) == 2
    wait_for(lambda: not any(map(alive, pids)), 10)
    assert worker.ask(PID, 60) not in pids
    assert worker.started_processes == before + 1


@pytest.mark.parametrize("status", [Status.ERROR_DEVICE, Status.ERROR_OOM, Status.FAIL_UNSUPPORTED])
def test_a_process_that_saw_a_device_error_is_never_asked_again(worker, status):
    pid = worker.ask(PID, 60)
    problem = problem_of(worker, Calls(functools.partial(requests.fails, status)))
    assert (problem.status, problem.reason) == (status, "It was to fail.")
    assert "CaseProblem: It was to fail." in problem.log_tail
    assert not alive(pid)
    assert worker.ask(PID, 60) != pid


@pytest.mark.parametrize("status", [Status.FAIL_LOAD, Status.FAIL_NAN])
def test_a_failure_of_the_case_leaves_the_process(worker, status):
    pid = worker.ask(PID, 60)
    assert problem_of(worker, Calls(functools.partial(requests.fails, status))).status is status
    assert worker.ask(PID, 60) == pid


def test_an_error_that_nobody_foresaw_is_the_harness_and_names_itself(worker):
    pid = worker.ask(PID, 60)
    problem = problem_of(worker, Calls(functools.partial(int, "x")))
    assert problem.status is Status.ERROR_HARNESS
    assert "ValueError: invalid literal for int()" in problem.reason
    assert "Traceback" in problem.log_tail
    assert worker.ask(PID, 60) != pid


def test_want_of_memory_that_nobody_foresaw_is_named(worker):
    pid = worker.ask(PID, 60)
    problem = problem_of(worker, Calls(requests.runs_out_of_memory))
    assert (problem.status, problem.stage) == (Status.ERROR_OOM, Stage.FORWARD)
    assert problem.reason.startswith("cpu: There is not enough memory")
    assert worker.ask(PID, 60) != pid


def test_a_process_that_linux_ends_for_want_of_memory_is_told_from_a_crash(
    worker, monkeypatch, tmp_path
):
    counts = tmp_path / "vmstat"
    counts.write_text("nr_free_pages 1\noom_kill 6\n")
    monkeypatch.setattr(process, "_VMSTAT", counts)
    monkeypatch.setattr(control_group, "killed", lambda: None)
    monkeypatch.setattr(worker, "beside", worker)
    problem = problem_of(worker, Calls(functools.partial(requests.killed, str(counts))))
    assert (problem.status, problem.stage) == (Status.ERROR_OOM, Stage.FORWARD)
    assert "cpu was killed in stage forward for want of memory (peaks: cpu " in problem.reason
    (peak,) = re.findall(r"cpu ([\d.]+) GB", problem.reason)  # what is beside it has ended too
    assert 0.1 < float(peak) < 2
    # Another process was ended for memory; this one died by itself.
    counts.write_text("oom_kill 6\n")
    problem = problem_of(worker, Calls(functools.partial(requests.killed, str(counts), "SIGABRT")))
    assert problem.status is Status.ERROR_CRASH


def test_an_interrupted_request_does_not_answer_the_next(worker):
    """As another plugin's time limit interrupts: by an exception out of a signal's handler."""

    class Interrupted(BaseException):
        pass

    def interrupt(*_):
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1)
        with pytest.raises(Interrupted):
            worker.ask(Calls(functools.partial(time.sleep, 3)), 60)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert isinstance(worker.ask(PID, 60), int)  # what sleep gives is None


def test_a_warning_of_the_harness_comes_to_the_run_and_others_to_the_log(worker):
    with pytest.warns(ReferenceCacheWarning, match="as it should") as seen:
        worker.ask(Calls(requests.warns), 60)
    assert len(seen) == 1
    assert "UserWarning: of torch" in worker.log_tail()


def test_bad_input_that_is_found_there_is_bad_input(worker):
    pid = worker.ask(PID, 60)
    with pytest.raises(UsageProblem, match="no such thing"):
        worker.ask(Calls(requests.is_used_wrongly), 60)
    assert worker.ask(PID, 60) == pid


def test_an_answer_that_cannot_be_sent_is_an_error_of_the_harness(worker):
    problem = problem_of(worker, Calls(requests.answers_with_what_cannot_be_sent))
    assert problem.status is Status.ERROR_HARNESS
    assert "pickle" in problem.reason
    assert worker.ask(PID, 60)


def test_a_request_that_cannot_be_unpacked_costs_only_itself(worker):
    problem = problem_of(worker, Unpacks(int, ("x",)))
    assert (problem.status, problem.stage) == (Status.ERROR_CRASH, Stage.LOAD)
    assert "ValueError: invalid literal for int()" in problem.log_tail
    assert worker.ask(PID, 60)


def test_a_start_that_crashes_is_a_crash(begun):
    problem = problem_of(begun(Unpacks(os._exit, (7,))), PID)
    assert (problem.status, problem.stage) == (Status.ERROR_CRASH, Stage.LOAD)
    assert "exit code 7" in problem.reason


def test_a_start_that_hangs_ends_at_its_limit(begun, monkeypatch):
    monkeypatch.setattr(workers, "START_SECONDS", 1)
    worker = begun(Unpacks(time.sleep, (600,)))
    problem = problem_of(worker, PID)
    assert (problem.status, problem.stage) == (Status.ERROR_TIMEOUT, Stage.LOAD)
    assert "was not ready within 1 s" in problem.reason
    assert not worker.starting


def test_a_device_that_fails_to_open_is_a_device_error(begun):
    problem = problem_of(begun(Unpacks(str, ("no device",))), PID)
    assert (problem.status, problem.stage) == (Status.ERROR_DEVICE, Stage.LOAD)
    assert "no device could not be opened: AttributeError" in problem.reason
    assert "Traceback" in problem.log_tail


def test_the_process_ends_with_a_run_that_is_killed_while_it_hangs():
    script = (
        "import functools, os, time\n"
        "from harness.devices.spec import DeviceSpec\n"
        "from harness.execution.worker import DeviceWorker\n"
        "from tests.makers.requests import Calls\n"
        "worker = DeviceWorker(DeviceSpec('cpu'))\n"
        "print(worker.ask(Calls(os.getpid), 60), flush=True)\n"
        "worker.ask(Calls(functools.partial(time.sleep, 600)), 600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as run:
        pid = int(run.stdout.readline())
        assert alive(pid)
        run.kill()
    wait_for(lambda: not alive(pid), 10)


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
