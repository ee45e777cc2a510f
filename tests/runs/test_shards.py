import argparse
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cases.case import Case, InputSource, ModelSource
from harness.records import results_file
from harness.runs import shards
from harness.runs.shards import Shard
from harness.system.status import UsageProblem
from harness.upgrade import history
from tests.makers.records import case_record
from tests.makers.two_runs import ran


def cases(count: int) -> list[Case]:
    return [
        Case(ModelSource("architecture", f"m{i}"), InputSource("synthetic"), numerics=numerics)
        for i in range(count)
        for numerics in ("default", "strict")
    ]


@given(
    st.integers(0, 30),
    st.integers(1, 8),
    st.dictionaries(st.integers(0, 29), st.floats(0.01, 1e4), max_size=30),
)
def test_every_case_is_in_exactly_one_shard(count, of, known):
    selected = cases(count)
    seconds = {f"m{i}-synthetic-float32-b8-strict": value for i, value in known.items()}
    parts = shards.split(selected, seconds, of)
    assert len(parts) == of
    assert sorted(case.id for part in parts for case in part) == sorted(c.id for c in selected)
    # The same on a host that finds its cases in another order.
    again = shards.split(selected[::-1], dict(reversed(seconds.items())), of)
    assert [{case.id for case in part} for part in again] == [{c.id for c in p} for p in parts]


def test_shards_take_about_equal_time_and_keep_profiles_of_one_model_together():
    selected = cases(40)
    seconds = {case.id: 1.0 + 97 * (i // 2) % 31 for i, case in enumerate(selected)}
    parts = shards.split(selected, seconds, 4)
    loads = [sum(seconds[case.id] for case in part) for part in parts]
    assert max(loads) / min(loads) < 1.1
    models = [{case.model for case in part} for part in parts]
    assert sum(map(len, models)) == 40
    by_number = shards.split(selected, {}, 4)
    assert [len(part) for part in by_number] == [20] * 4


def test_a_shard_knows_the_whole_and_its_plan():
    selected = cases(5)
    infos = [shards.choose(selected, {}, Shard(i, 3))[1] for i in (1, 2, 3)]
    assert {tuple(info.whole) for info in infos} == {tuple(case.id for case in selected)}
    assert len({info.plan for info in infos}) == 1
    other = shards.choose(selected, {selected[0].id: 9.0, selected[2].id: 1.0}, Shard(1, 3))[1]
    assert other.plan != infos[0].plan


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "a/b", "-1/2", ""])
def test_what_is_no_shard(text):
    with pytest.raises(argparse.ArgumentTypeError, match="give I/N"):
        shards.parse(text)


def test_durations_come_from_results_and_from_history(tmp_path):
    run = ran(1, case_record("a", duration_seconds=3.0), case_record("b", duration_seconds=5.0))
    results_file.start(tmp_path, run.run, run.cases)
    known = {case.case_id: case.duration_seconds for case in run.cases}
    assert shards.durations(tmp_path) == known
    assert shards.durations(tmp_path / "results.jsonl") == known
    path = history.append(tmp_path / "history", run)
    assert shards.durations(path) == known
    newer = ran(2, case_record("a", duration_seconds=7.0))
    history.append(tmp_path / "history", newer)
    assert shards.durations(path) == known | {newer.cases[0].case_id: 7.0}


def test_files_without_durations_are_one_sentence(tmp_path):
    with pytest.raises(UsageProblem, match="does not exist"):
        shards.durations(tmp_path / "none")
    run = ran(1, case_record("a"))  # took no time: was never run
    results_file.start(tmp_path, run.run, run.cases)
    with pytest.raises(UsageProblem, match="no duration"):
        shards.durations(tmp_path)
    (tmp_path / "x.jsonl").write_text(json.dumps({"a": 1}))
    with pytest.raises(UsageProblem):
        shards.durations(tmp_path / "x.jsonl")
