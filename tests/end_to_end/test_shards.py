from harness.runs.merge import merge
from tests.makers.cases import entry


def test_shards_of_a_run_make_the_whole(harness_run, copy_of, tmp_path):
    cases = entry(copy_of("a")) + entry(copy_of("b"))
    for number, code in ((1, 0), (2, 0), (3, 5)):  # two models: nothing is left for the third
        done = harness_run("--device", "cpu", "--shard", f"{number}/3", cases=cases)
        assert done.code == code, done.text
        if code == 0:
            assert f"shard {number}/3: 1 of 2 cases" in done.text
            done.results.rename(tmp_path / f"part{number}")
    done = harness_run("--device", "cpu", "--shard", "1/1", "-k", "a-synthetic", cases=cases)
    assert done.code == 4, done.text
    assert "leave only 1 of 2 cases" in done.text
    merged = merge([tmp_path / "part1", tmp_path / "part2"], tmp_path / "whole")
    assert merged.code == 0
    assert sorted(case.case.model.name for case in merged.run.cases) == ["a", "b"]
