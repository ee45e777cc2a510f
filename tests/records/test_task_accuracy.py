import datetime
import shutil

import pytest

from harness.records import task_accuracy as records
from harness.records import task_accuracy_result
from harness.records.task_accuracy import TaskEnd, Unread, Writer
from harness.records.task_accuracy_result import GAINED, LOST, OTHER
from harness.system.status import ExitCode, Status, UsageProblem
from tests.makers.task_accuracy import answered, device, part, run, write

NOW = datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)


def test_parts_are_read_back_whatever_a_killed_process_left(tmp_path):
    write(tmp_path, run(), part(0), part(1))
    file = tmp_path / records.FILE
    whole = file.read_bytes()
    assert [one.number for one in records.parts(tmp_path)] == [0, 1]
    for cut in (1, 2, 50, len(part(1).model_dump_json())):
        file.write_bytes(whole[:-cut])
        kept = [one.number for one in records.parts(file)]
        assert kept == ([0, 1] if cut == 1 else [0])  # the line feed alone is no loss
        Writer(tmp_path, run(), new=False).add(part(2))
        assert list(records.parts(file)) == [part(n) for n in (*kept, 2)]
    assert records.read_end(tmp_path) is None
    end = TaskEnd(status=Status.PASS, exit_code=0, finished=NOW, peak_bytes={"run": 5})
    Writer(tmp_path, run(), new=False).add(end)
    assert records.read_end(tmp_path) == end


def test_an_earlier_file_is_kept_aside(tmp_path):
    write(tmp_path, run(), part(0))
    write(tmp_path, run(batch_size=4))
    assert records.read_run(tmp_path).batch_size == 4
    (old,) = (tmp_path / "previous").iterdir()
    assert old.name.startswith("task-accuracy-") and [one.number for one in records.parts(old)]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"type": "part", "number": -1, "answered": []}', "line 3: part.number"),
        ('{"type": "what"}', "line 3: "),
        ("[]", "line 3: "),
        (part(1).model_dump_json().replace('"label":7', '"label":10'), "part 1 names a class"),
        (part(1).model_dump_json().replace('"label":7', '"label":-1'), "line 3: part.answered.7"),
        (part(5).model_dump_json(), "holds part 5, the run has fewer"),
        (part(0, lost=1).model_dump_json(), "holds part 0 twice with different answers"),
    ],
)
def test_a_damaged_file_is_one_sentence(tmp_path, line, sentence):
    write(tmp_path, run(), part(0))
    with (tmp_path / records.FILE).open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(UsageProblem) as problem:
        list(records.parts(tmp_path))
    assert sentence in str(problem.value) and "\n" not in str(problem.value)


def test_what_is_no_results_file_is_refused(tmp_path):
    with pytest.raises(UsageProblem, match="cannot be read"):
        records.read_run(tmp_path)
    (tmp_path / records.FILE).write_text(part(0).model_dump_json() + "\n")
    with pytest.raises(UsageProblem, match="its first line is missing"):
        records.read_run(tmp_path)


def test_every_part_is_in_one_shard_and_a_run_knows_its_images():
    whole = run(images=37)
    shards = [run(images=37, shard=f"{number}/3") for number in (1, 2, 3)]
    assert sorted(n for one in shards for n in one.mine()) == whole.mine() == [0, 1, 2, 3, 4]
    assert [one.total for one in shards] == [16, 13, 8] and whole.total == 37


def test_what_keeps_two_runs_apart_is_named():
    assert run().differs(run(shard="1/2", weights="another/path")) == ""
    assert run().differs(run(environment={"torch": "2.9.0", "OMP_NUM_THREADS": "1"})) == ""
    assert run(dtype="float16").differs(run()) == "dtype float32, here float16"
    assert "device npu Ascend910B3" in run().differs(run(device=device("npu")))
    assert "torch 2.8.0, here 2.9.0" in run().differs(run(environment={"torch": "2.8.0"}))
    names = [f"a name of class {index}" for index in range(1000)]
    assert len(run().differs(run(classes=names))) < 300


def test_a_result_counts_every_image_once(tmp_path):
    gained = part(1).answered[0].model_copy(update={"cpu": [3, 0, 1, 2, 4]})
    both_wrong = answered(9, label=0, cpu=1, theirs=2)
    broken = answered(10, label=3, cpu=3, theirs=None)
    unread = Unread(name="x.jpg", label=0, reason="x.jpg is empty.")
    second = part(1).model_copy(
        update={"answered": [gained, both_wrong, broken], "unread": [unread]}
    )
    write(tmp_path, run(), part(0, lost=3), second)
    found = task_accuracy_result.read(tmp_path)
    counts = found.counts
    assert (counts.images, counts.cpu_right, counts.device_right) == (11, 9, 6)
    assert (counts.lost, counts.gained, counts.device_broken) == (4, 1, 1)
    assert dict(found.flip_counts) == {LOST: 4, GAINED: 1, OTHER: 1}
    # Class 0 is the fifth after 6 and no further: 1 to 5 do not have it.
    assert (counts.cpu_top5, counts.device_top5) == (10, 6)
    assert found.unread == 1 and found.missing == [2, 3, 4]
    assert found.status is Status.FAIL_NAN and found.code is ExitCode.FAILED


def test_the_exit_code_is_that_of_the_whole(tmp_path):
    def code(*parts, **changes) -> tuple[Status, ExitCode]:
        shutil.rmtree(tmp_path / "r", ignore_errors=True)
        found = task_accuracy_result.read(write(tmp_path / "r", run(**changes), *parts))
        return found.status, found.code

    good = [part(number) for number in range(5)]
    worse = [part(number, lost=2) for number in range(5)]
    assert code(*good) == (Status.PASS, ExitCode.OK)
    assert code(*good[:4]) == (Status.PASS, ExitCode.INCOMPLETE)
    assert code(*worse) == (Status.FAIL_ACCURACY, ExitCode.FAILED)
    # A shard is not judged, whatever it holds, but for what needs no statistics.
    assert code(*worse[::2], shard="1/2") == (Status.SKIP, ExitCode.OK)
    assert code(worse[0], shard="1/2") == (Status.SKIP, ExitCode.INCOMPLETE)
    assert code(*good[::2], shard="1/2", fallback=["aten::relu"])[1] is ExitCode.FAILED
    assert code(part(0, size=4), images=4) == (Status.INCONCLUSIVE, ExitCode.FAILED)


def test_pictures_are_bounded_and_counts_are_not(tmp_path):
    header = run(images=8000)
    write(tmp_path, header, *(part(number, lost=8) for number in range(30)))
    found = task_accuracy_result.read(tmp_path)
    assert found.flip_counts[LOST] == 240 and len(found.flips[LOST]) == 100
