import json
import random
import subprocess
import sys
import time

import numpy as np
import pytest

from harness.judgement.verdict import judge
from harness.records import results_file
from harness.records.lines import EndRecord, StartRecord
from harness.system.files import ROOT
from harness.system.status import Stage, UsageProblem
from tests.makers.evidence import evidence
from tests.makers.records import NOW, case_record, run_record


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results.jsonl"


def test_a_record_survives_the_round_trip(path):
    rng = np.random.default_rng(0)
    logits = {"output": 3 * rng.normal(size=(2, 5))}
    judged = judge(evidence(logits, logits, labels=["ä", "<b>"]))
    record = case_record(
        gate=judged.gate,
        outputs=list(judged.outputs),
        discrimination=judged.discrimination,
        stage=Stage.COMPARE,
        reason='世界\n"quotes"',
    )
    results_file.append(path, record)
    assert results_file.read(path).cases == [record]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_nonfinite_numbers_are_kept_and_the_file_stays_json(path, value):
    record = case_record(duration_seconds=value)
    results_file.append(path, record)
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"bare {name} in JSON"))
    assert repr(results_file.read(path).cases[0].duration_seconds) == repr(value)


def test_a_line_cut_off_by_a_crash_costs_only_itself(path):
    results_file.append(path, run_record("a", "b"))
    results_file.append(path, case_record("a"))
    whole = path.read_bytes()
    results_file.append(path, case_record("b"))
    torn = path.read_bytes()[: len(whole) + 40]
    path.write_bytes(torn)
    results_file.append(path, case_record("c"))
    run = results_file.read(path)
    assert [case.case.model.ref for case in run.cases] == ["a", "c"]
    assert run.torn_lines == 1


def test_missing_cases_are_those_without_a_record(path):
    have = case_record("a")
    results_file.append(path, run_record(have.case_id, "other"))
    results_file.append(path, have)
    assert results_file.read(path).missing == ["other"]


def test_starting_a_run_keeps_the_earlier_one(tmp_path):
    for name in ("first", "second", "third"):
        results_file.start(tmp_path, run_record(name))
    kept = sorted((tmp_path / "previous").iterdir())
    assert [results_file.read(p).run.cases for p in kept] == [["first"], ["second"]]
    assert results_file.read(tmp_path / "results.jsonl").run.cases == ["third"]


def test_another_schema_version_is_refused_with_its_place(path):
    raw = json.loads(run_record().model_dump_json()) | {"schema_version": 99}
    path.write_text("\n" + json.dumps(raw) + "\n")
    with pytest.raises(UsageProblem, match="line 2: schema version 99"):
        results_file.read(path)


@pytest.mark.parametrize("text", ["", "hello\n", "{}\n", "[1, 2]\n", '{"schema_version": 1}\n'])
def test_files_that_are_no_results(path, text):
    path.write_text(text)
    with pytest.raises(UsageProblem):
        results_file.read(path)


def test_a_missing_file_is_one_sentence(path):
    with pytest.raises(UsageProblem, match="No results file"):
        results_file.read(path)


def test_results_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageProblem, match="give --results DIR"):
        results_file.start(tmp_path / "file", run_record())


def test_the_end_line_is_read(path):
    results_file.append(path, run_record())
    results_file.append(path, EndRecord(exit_code=12, finished=NOW))
    assert results_file.read(path).end.exit_code == 12


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
