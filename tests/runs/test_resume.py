"""Whatever is killed, records survive; and an earlier run is completed, or refused."""

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from harness.cases.case import Case, InputSource, ModelSource
from harness.records import results_file
from harness.records.lines import ShardInfo, StartRecord
from harness.runs import resume
from harness.system.files import ROOT
from harness.system.status import Status, UsageProblem
from tests.makers.cases import entry
from tests.makers.processes import alive, children, wait_for
from tests.makers.records import case_record, run_record

A, B = (Case(ModelSource("architecture", name), InputSource("synthetic")) for name in "ab")


SHARD = ShardInfo(number=1, of=2, whole=[A.id, B.id], plan="p")


@pytest.fixture
def earlier(tmp_path):
    """An earlier run of two cases: one with a verdict, one with trouble."""
    record = run_record(A.id, B.id).model_copy(
        update={
            "fingerprints": {case.id: case.fingerprint for case in (A, B)},
            "settings": {"repeat": "2"},
            "environment": {"torch": "2.8", "OMP_NUM_THREADS": "8"},
        }
    )
    cases = [case_record("a", Status.FAIL_NAN), case_record("b", Status.ERROR_OOM)]
    results_file.start(tmp_path, record, cases)
    return resume.read(tmp_path)


def check(earlier, **changes):
    given = {
        "cases": [A, B],
        "shard": None,
        "settings": {"repeat": "2"},
        "device_kind": "cpu",
        "environment": {"torch": "2.8", "OMP_NUM_THREADS": "1"},
    }
    resume.check(earlier, **(given | changes))


def test_verdicts_are_kept_and_trouble_is_run_again(earlier):
    check(earlier)
    assert list(earlier.kept) == [A.id]
    assert earlier.parts == ["r"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cases": [A]}, "1 of its cases are not selected"),
        ({"cases": [A, B, dataclasses.replace(A, dtype="float16")]}, "that it lacks"),
        (
            {"cases": [A, dataclasses.replace(B, model=ModelSource("directory", "/x/b"))]},
            "stands for another model",
        ),
        ({"shard": SHARD}, "another shard"),
        ({"settings": {"repeat": "3"}}, "repeat 2, this one 3"),
        ({"device_kind": "npu"}, "give --device cpu"),
        ({"environment": {"torch": "2.9"}}, "torch was 2.8 and is 2.9"),
    ],
)
def test_another_run_is_refused_in_one_sentence(earlier, changes, said):
    with pytest.raises(UsageProblem, match=said) as problem:
        check(earlier, **changes)
    assert "\n" not in str(problem.value)


def test_a_file_without_the_line_of_its_run_cannot_be_resumed(tmp_path):
    results_file.append(tmp_path / "results.jsonl", case_record("a"))
    with pytest.raises(UsageProblem, match="line of the run itself"):
        resume.read(tmp_path)


WRITER = """
import sys
from pathlib import Path
from harness.records.lines import CaseRecord, StartRecord
from harness.records.results_file import append
record = CaseRecord.model_validate_json(sys.stdin.read())
print("ready", flush=True)
for number in range(100_000):
    name = f"case{number}"
    append(Path(sys.argv[1]), StartRecord(case_id=name))
    append(Path(sys.argv[1]), record.model_copy(update={"case_id": name}))
"""


@pytest.mark.parametrize("seed", range(5))
def test_a_writer_killed_at_any_moment_costs_at_most_the_case_in_flight(tmp_path, seed):
    path = tmp_path / "results.jsonl"
    results_file.append(path, run_record())
    long = case_record(reason="x" * 50_000)
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with process:
        process.stdin.write(long.model_dump_json())
        process.stdin.close()
        assert process.stdout.readline() == "ready\n"
        time.sleep(random.Random(seed).uniform(0.01, 0.2))
        process.kill()
    run = results_file.read(path)
    done = [case.case_id for case in run.cases]
    assert done == [f"case{number}" for number in range(len(done))]
    assert all(case.reason == long.reason for case in run.cases)
    assert run.in_flight in ([], [f"case{len(done)}"])
    # Whoever goes on writing there loses nothing either.
    results_file.append(path, case_record("after"))
    assert [case.case_id for case in results_file.read(path).cases] == [
        *done,
        case_record("after").case_id,
    ]


def test_a_results_file_is_wholly_the_old_or_the_new_one(tmp_path):
    results_file.start(tmp_path, run_record("old"), [case_record("a")])
    results_file.start(tmp_path, run_record("new"), [case_record("a"), StartRecord(case_id="b")])
    run = results_file.read_run(tmp_path)
    assert (run.run.cases, len(run.cases), run.in_flight) == (["new"], 1, ["b"])
    assert not list(tmp_path.glob(".results.*"))
    (kept,) = (tmp_path / "previous").iterdir()
    assert results_file.read(kept).run.cases == ["old"]


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
    assert again.cases == run.cases
    assert again.run.parts[-1] == run.run.run_id
