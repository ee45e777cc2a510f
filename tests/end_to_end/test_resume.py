import os
import random
import signal
import time

from harness.records import results_file
from tests.makers.cases import entry
from tests.makers.processes import alive, children, wait_for


def test_runs_killed_at_random_moments_are_completed(start, copy_of, tmp_path):
    moments = random.Random(1)
    names = [f"m{number}" for number in range(5)]
    bad = copy_of("bad")
    (bad / "config.json").write_text("{")
    cases = "\n".join(entry(copy_of(name)) for name in names) + entry(bad)
    path = tmp_path / "results" / "results.jsonl"
    options: list[str] = []
    settled: set[str] = set()
    run_id = ""
    for victim in ("run", "device", "run"):
        process = start(cases, *options)
        wait_for(lambda old=run_id: path.exists() and results_file.read(path).run.run_id != old)
        time.sleep(moments.uniform(0, 8))
        device = children(process)
        if victim == "run":
            process.kill()
        else:
            for pid in device:
                os.kill(pid, signal.SIGKILL)
        process.communicate()
        # The device's process does not outlive its run, even in the middle of a case.
        wait_for(lambda pids=device: not any(map(alive, pids)))
        run = results_file.read(path)
        run_id = run.run.run_id
        verdicts = {case.case_id for case in run.cases if not case.status.is_error}
        assert settled <= verdicts
        assert set(run.in_flight) <= set(run.missing)
        assert len(run.missing) + len(run.cases) == len(names) + 1
        settled = verdicts
        options = [f"--resume={tmp_path / 'results'}"]
    process = start(cases, *options)
    text = process.communicate()[0]
    assert process.returncode == 1, text
    run = results_file.read(path)
    assert (run.missing, run.in_flight) == ([], [])
    assert {case.case.model.name: case.status.value for case in run.cases} == {
        **dict.fromkeys(names, "pass"),
        "bad": "fail_load",
    }
    assert run.end.exit_code == 1

    # Nothing is left to run: the records alone give the exit code.
    process = start(cases, *options)
    text = process.communicate()[0]
    assert process.returncode == 1, text
    again = results_file.read(path)
    # By their text: NaN is not equal to NaN.
    assert [case.model_dump_json() for case in again.cases] == [
        case.model_dump_json() for case in run.cases
    ]
    assert again.run.parts[-1] == run.run.run_id
