import dataclasses
import json

import pytest

from harness.qualification import results
from harness.qualification.outcomes import Outcome, SetResult, settled
from harness.qualification.results import Results, Writer
from harness.system.status import Status, UsageProblem
from tests.makers.operators import outcome, run


def test_a_file_read_back_is_the_same(tmp_path):
    path = tmp_path / "operators.jsonl"
    made = Results(run(), {"0a": outcome("0a"), "0b": outcome("0b", Status.FAIL_NAN)}, ended=True)
    results.write(made, path, 1)
    assert results.read(path) == made == results.read(tmp_path)


def test_a_torn_last_line_is_what_a_killed_run_leaves(tmp_path):
    path = tmp_path / "operators.jsonl"
    writer = Writer(path, run(), new=True)
    writer.add(outcome("0a"))
    writer.close()
    with path.open("a") as stream:
        stream.write('{"type": "call", "id": "0b", "sta')
    found = results.read(path)
    assert list(found.outcomes) == ["0a"] and not found.ended
    results.trim(path)
    writer = Writer(path, run(), new=False)
    writer.add(outcome("0b"))
    writer.end(0)
    assert list(results.read(path).outcomes) == ["0a", "0b"] and results.read(path).ended


@pytest.mark.parametrize("line", ["{", '{"type": "call"}', "[]", '{"type": "run", "x": 1}'])
def test_damage_in_the_middle_is_bad_input_that_names_the_line(tmp_path, line):
    path = tmp_path / "operators.jsonl"
    writer = Writer(path, run(), new=True)
    writer.close()
    path.write_text(path.read_text() + line + "\n" + json.dumps(outcome("0a").plain) + "\n")
    with pytest.raises(UsageProblem, match="damaged in line 2"):
        results.read(path)


@pytest.mark.parametrize("content", [None, "", '{"type": "end", "exit_code": 0}\n'])
def test_what_holds_no_run_is_bad_input(tmp_path, content):
    path = tmp_path / "operators.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageProblem, match="operators.jsonl"):
        results.read(path)


def test_parts_join_into_what_one_run_gives(tmp_path):
    whole = {name: outcome(name) for name in ("0a", "0b", "0c")}
    parts = [
        Results(dataclasses.replace(run(), shard=f"{n}/3"), {name: whole[name]}, ended=True)
        for n, name in ((1, "0b"), (2, "0c"), (3, "0a"))
    ]
    assert results.merge([(tmp_path, part) for part in parts]) == Results(run(), whole, ended=True)


def test_parts_of_other_devices_do_not_join(tmp_path):
    other = dataclasses.replace(run(), device="Ascend310P3")
    with pytest.raises(UsageProblem, match="device Ascend310P3, here Ascend910B3"):
        results.merge([(tmp_path, Results(run(), {}, True)), (tmp_path, Results(other, {}, True))])


def test_an_earlier_verdict_stands_where_the_bits_are_the_same():
    bad = SetResult(Status.FAIL_ACCURACY, "7 times", bits="aa", inputs="1", ratio=7.0)
    earlier = Outcome("0a", "[]", Status.FAIL_ACCURACY, "7 times", sets={"typical": bad})
    again = SetResult(Status.PASS, bits="aa", inputs="1", judged=False)
    found = settled(Outcome("0a", "[]", Status.PASS, sets={"typical": again}), earlier)
    assert found.status is Status.FAIL_ACCURACY and found.reason == "7 times"
    assert found.sets["typical"].ratio == 7.0 and not found.sets["typical"].judged


def test_faults_that_were_planted_belong_to_a_run_and_to_the_command_that_repeats_it():
    planted = dataclasses.replace(run(), fault_plan="my faults.json", fault_plan_sha256="ab" * 32)
    assert "fault_plan_sha256" in planted.differs(run())
    assert planted.options.endswith("--fault-plan 'my faults.json'")
    assert planted.planted == "Faults were planted on purpose: my faults.json (abababababab)."
    assert not run().planted and "--fault-plan" not in run().options
