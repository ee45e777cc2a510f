"""An earlier run is completed, or refused with the reason."""

import dataclasses

import pytest

from harness.cases.case import Case, InputSource, ModelSource
from harness.records import results_file
from harness.records.lines import ShardInfo
from harness.runs import resume
from harness.system.status import Status, UsageProblem
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
