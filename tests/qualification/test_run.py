"""The loop over batches, in front of a device's process that is made up."""

import dataclasses

import pytest

from harness.devices.spec import DeviceSpec
from harness.qualification import device_requests, results, run
from harness.qualification.run import Plan
from harness.records.leg import DeviceInfo
from harness.system.status import CaseProblem, ExitCode, Stage, Status, UsageProblem
from tests.makers.operators import calls, outcome, softmax

TEXTS = [softmax(size) for size in range(2, 40)]
INFO = DeviceInfo(
    spec="npu:0", kind="npu", name="Ascend910B3", emulated=False, index=0, uuid=None,
    total_memory_bytes=1, details={"cann": "8.5.0"},
)  # fmt: skip


class Process:
    """Answers as a worker: `dies` and `fails` are texts of calls that end it."""

    dies: tuple[str, ...] = ()
    fails: tuple[str, ...] = ()
    lacks = ""
    asked: list[int]
    stops = 0

    def __init__(self, spec, kernels):
        type(self).asked = []
        type(self).stops = 0

    def ask(self, request, timeout):
        if isinstance(request, device_requests.Describe):
            if self.lacks:
                raise CaseProblem(Status.FAIL_UNSUPPORTED, Stage.LOAD, self.lacks)
            return INFO, {}
        type(self).asked.append(len(request.calls))
        if any(text in self.dies for text in request.calls.values()):
            raise CaseProblem(Status.ERROR_CRASH, Stage.FORWARD, "died")
        found = []
        for name, text in request.calls.items():
            failed = text in self.fails
            found.append(outcome(name, Status.ERROR_DEVICE if failed else Status.PASS, text=text))
            if failed:
                break
        return found

    def stop(self):
        type(self).stops += 1


@pytest.fixture
def process(monkeypatch):
    made = type("Made", (Process,), {})
    monkeypatch.setattr(run, "DeviceWorker", made)
    return made


def go(tmp_path, **more):
    plan = Plan(DeviceSpec("npu"), **more)
    return run.run(calls({"m": TEXTS}), plan, tmp_path / results.FILE, lambda text: None)


def statuses(found):
    return {item.signature: item.status for item in found.outcomes.values()}


def test_a_crash_costs_one_call(process, tmp_path):
    process.dies = (TEXTS[3],)
    found = statuses(go(tmp_path))
    assert found.pop(TEXTS[3]) is Status.ERROR_CRASH
    assert len(found) == len(TEXTS) - 1 and set(found.values()) == {Status.PASS}
    assert run.BATCH in process.asked and 1 in process.asked


def test_a_device_error_costs_one_call_and_the_process(process, tmp_path):
    process.fails = (TEXTS[3], TEXTS[30])
    found = statuses(go(tmp_path))
    assert found.pop(TEXTS[3]) is found.pop(TEXTS[30]) is Status.ERROR_DEVICE
    assert len(found) == len(TEXTS) - 2 and set(found.values()) == {Status.PASS}
    assert process.stops == 3  # after each error and at the end


def test_processes_side_by_side_take_every_call_once(process, tmp_path):
    process.dies, process.fails = (TEXTS[3],), (TEXTS[4],)
    found = go(tmp_path, processes=3)
    assert len((tmp_path / results.FILE).read_text().splitlines()) == len(TEXTS) + 2
    by_text = statuses(found)
    assert by_text.pop(TEXTS[3]) is Status.ERROR_CRASH
    assert by_text.pop(TEXTS[4]) is Status.ERROR_DEVICE
    assert len(by_text) == len(TEXTS) - 2 and set(by_text.values()) == {Status.PASS}


def test_what_goes_wrong_in_one_of_several_processes_ends_the_run(process, tmp_path, monkeypatch):
    def broken(self, request, timeout):
        if isinstance(request, device_requests.Describe):
            return INFO, {}
        raise OSError("no such pipe")

    monkeypatch.setattr(process, "ask", broken)
    with pytest.raises(OSError, match="no such pipe"):
        go(tmp_path, processes=2)
    assert process.stops == 2


def test_a_device_that_lacks_the_dtype_is_bad_input(process, tmp_path):
    process.lacks = "npu:0 does not compute in bfloat16: give another --dtype."
    with pytest.raises(UsageProblem, match="does not compute in bfloat16"):
        go(tmp_path, dtype="bfloat16")


def test_results_of_other_settings_are_not_gone_on_with(process, tmp_path):
    go(tmp_path)
    plan = Plan(DeviceSpec("npu"), numerics="default")
    with pytest.raises(UsageProblem, match="numerics strict, here default"):
        run.run(calls({"m": TEXTS}), plan, tmp_path / results.FILE, print, resume=True)


def test_bits_of_another_chip_are_not_compared(process, tmp_path):
    since = go(tmp_path)
    other = dataclasses.replace(since, run=dataclasses.replace(since.run, device="Ascend310P3"))
    with pytest.raises(UsageProblem, match="another device"):
        go(tmp_path / "new", since=other)


def test_shards_share_out_every_call_once(process, tmp_path):
    parts = [set(go(tmp_path / str(n), shard=(n, 3)).outcomes) for n in (1, 2, 3)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(TEXTS)


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ([], ExitCode.NOTHING_SELECTED),
        ([Status.PASS, Status.SKIP], ExitCode.OK),
        ([Status.PASS, Status.ERROR_OOM], ExitCode.INFRASTRUCTURE),
        ([Status.ERROR_OOM, Status.FLAKY], ExitCode.FAILED),
    ],
)
def test_exit_codes(found, code, process, tmp_path):
    whole = go(tmp_path)
    outcomes = {str(n): outcome(str(n), status) for n, status in enumerate(found)}
    assert run.exit_code(dataclasses.replace(whole, outcomes=outcomes)) == code
