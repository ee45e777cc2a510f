import pytest

from harness.records import task_accuracy as records
from harness.records import task_accuracy_result
from harness.records.task_accuracy_result import Result
from harness.runs import task_accuracy as runs
from harness.system.status import ExitCode, Status, UsageProblem
from tests.makers.task_accuracy import part, run, write


def shard(folder, number: int, *, lost: int = 0, of: int = 2, **changes):
    header = run(shard=f"{number}/{of}", **changes)
    return write(folder, header, *(part(n, lost=lost) for n in header.mine()))


def test_shards_are_joined_and_judged_as_a_whole(tmp_path):
    parts = [shard(tmp_path / f"part{number}", number, lost=2) for number in (2, 1)]
    found = runs.merge(parts, tmp_path / "whole")
    assert (found.counts.images, found.counts.lost, found.missing) == (40, 10, [])
    assert (found.status, found.code) == (Status.FAIL_ACCURACY, ExitCode.FAILED)
    again = task_accuracy_result.read(tmp_path / "whole")
    assert again.counts == found.counts and again.run.shard == ""
    end = records.read_end(tmp_path / "whole")
    assert (end.status, end.exit_code) == (Status.FAIL_ACCURACY, 1)


def test_a_shard_that_is_not_there_makes_it_incomplete(tmp_path):
    found = runs.merge([shard(tmp_path / "one", 1)], tmp_path / "whole")
    assert found.missing == [1, 3] and found.code is ExitCode.INCOMPLETE


def test_parts_that_do_not_belong_together_are_refused_and_nothing_is_written(tmp_path):
    one, whole = shard(tmp_path / "one", 1), tmp_path / "whole"
    other = shard(tmp_path / "other", 2, weights_sha256="ff" * 32)
    with pytest.raises(UsageProblem, match="does not belong to .*weights_sha256"):
        runs.merge([one, other], whole)
    twice = shard(tmp_path / "twice", 1, lost=1)
    with pytest.raises(UsageProblem, match="hold part 0 with different answers"):
        runs.merge([one, twice], whole)
    assert not (whole / records.FILE).exists()
    with pytest.raises(UsageProblem, match="holds one of the parts"):
        runs.merge([one], one)
    assert task_accuracy_result.read(one).counts.images == 24
    # The same shard twice, as it is after a copy, is no trouble.
    assert runs.merge([one, shard(tmp_path / "copy", 1)], whole).counts.images == 24


def test_progress_says_rate_and_time_left_of_this_run_alone():
    said: list[str] = []
    result = Result(run())
    result.add(part(0))
    progress = runs._Progress(said.append, result, now=100.0)
    assert said == ["8 of 40 images were answered by an earlier run."]
    result.add(part(1, lost=2))
    progress.tell(101.0)  # too soon
    result.add(part(2))
    progress.tell(116.0)
    assert said[1:] == [
        "24 of 40 images; 1.0 a second; Top-1 100.00 % on the CPU, 91.67 % on the device; about "
        "16 s left [EMULATED]"
    ]
    result.add(part(3))
    result.add(part(4))
    progress.tell(117.0)
    assert said[2].endswith("done [EMULATED]") and len(said) == 3
