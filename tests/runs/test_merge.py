"""Records of several parts become one run, and nothing about them is hidden."""

import pytest

from harness.entry.commands.main import main
from harness.judgement.localization import Localization
from harness.records import results_file
from harness.records.lines import EndRecord, ShardInfo, StartRecord
from harness.runs.merge import merge
from harness.system.status import ExitCode, Status, UsageProblem
from tests.makers.records import case_record, run_record

P, F, E = Status.PASS, Status.FAIL_ACCURACY, Status.ERROR_CRASH


NOW = "2026-01-01T00:00:00Z"


WHOLE = [case_record(name).case_id for name in "abcd"]


@pytest.fixture
def part(tmp_path):
    """Write one part's records; gives its folder."""

    def write(name, *cases, extra=(), whole=WHOLE, number=1, of=2, end=0, plan="p", **changes):
        shard = ShardInfo(number=number, of=of, whole=whole, plan=plan) if of else None
        ids = [case.case_id for case in cases] + [case_record(one).case_id for one in extra]
        record = run_record(*ids).model_copy(update={"run_id": name, "shard": shard, **changes})
        closing = [EndRecord(exit_code=end, finished=NOW)] if end is not None else []
        begun = [StartRecord(case_id=case_id) for case_id in ids]
        results_file.start(tmp_path / name, record, [*begun, *cases, *closing])
        return tmp_path / name

    return write


def joined(tmp_path, *parts, **options):
    return merge(parts, tmp_path / "whole", **options)


def test_shards_become_one_complete_run(part, tmp_path):
    one = part("one", case_record("a"), case_record("c"))
    two = part("two", case_record("b"), case_record("d"), number=2)
    merged = joined(tmp_path, two, one)
    assert merged.code is ExitCode.OK
    assert (merged.differences, merged.conflicts, merged.notes) == ((), (), ())
    written = results_file.read_run(tmp_path / "whole")
    assert [case.case_id for case in written.cases] == WHOLE
    assert written.run.cases == WHOLE
    assert written.missing == []
    assert written.end.exit_code == 0
    assert written.run.parts == ["two", "one"]
    assert (tmp_path / "whole" / "history" / "cpu.jsonl").is_file()


@pytest.mark.parametrize(
    ("second", "code"),
    [(F, ExitCode.FAILED), (E, ExitCode.INFRASTRUCTURE), (P, ExitCode.OK)],
)
def test_the_exit_code_is_that_of_the_whole(part, tmp_path, second, code):
    one = part("one", case_record("a"), case_record("b"))
    two = part("two", case_record("c"), case_record("d", second), number=2, end=int(code))
    assert joined(tmp_path, one, two).code is code


def test_a_shard_that_is_not_there_leaves_its_cases_missing(part, tmp_path):
    merged = joined(tmp_path, part("one", case_record("a"), case_record("b")))
    assert merged.code is ExitCode.INCOMPLETE
    assert merged.run.missing == WHOLE[2:]
    assert merged.notes == ("No records of shard 2/2.",)
    assert not (tmp_path / "whole" / "history").exists()


def test_a_part_cut_short_names_what_was_in_flight(part, tmp_path):
    one = part("one", case_record("a"), extra="b", end=None)
    two = part("two", case_record("c"), case_record("d"), number=2)
    merged = joined(tmp_path, one, two)
    assert merged.code is ExitCode.INCOMPLETE
    said = f"{WHOLE[1]} (in flight when the run was cut short)"
    assert results_file.read_run(tmp_path / "whole").unfinished == [said]


def test_a_case_in_two_parts_is_kept_once(part, tmp_path):
    again = case_record("b", duration_seconds=2.0)
    one = part("one", case_record("a"), again, whole=WHOLE[:3])
    two = part("two", case_record("b"), case_record("c"), whole=WHOLE[:3], number=2)
    merged = joined(tmp_path, one, two)
    assert merged.code is ExitCode.OK
    assert [case.case_id for case in merged.run.cases] == WHOLE[:3]
    assert merged.notes == (f"{WHOLE[1]}: Tried 2 times: pass, then pass.",)


@pytest.mark.parametrize("order", [(P, F), (F, P)])
def test_two_verdicts_on_one_case_are_a_conflict_and_the_worse_stays(part, tmp_path, order):
    one = part("one", case_record("a", order[0]), of=0)
    two = part("two", case_record("a", order[1]), of=0)
    merged = joined(tmp_path, one, two)
    assert merged.code is ExitCode.FAILED
    assert [case.status for case in merged.run.cases] == [F]
    (sentence,) = merged.conflicts
    assert f"Tried 2 times: {order[0].value}, then {order[1].value}." in sentence


@pytest.mark.parametrize("order", [(P, E), (E, P)])
def test_a_verdict_replaces_trouble_of_the_infrastructure(part, tmp_path, order):
    one = part("one", case_record("a", order[0]), of=0)
    two = part("two", case_record("a", order[1]), of=0)
    merged = joined(tmp_path, one, two)
    assert (merged.code, merged.conflicts) == (ExitCode.OK, ())
    assert [case.status for case in merged.run.cases] == [P]


def test_other_weights_under_one_id_are_refused_and_nothing_is_written(part, tmp_path):
    one = part("one", case_record("a", weights_sha256="1"), of=0)
    two = part("two", case_record("a", weights_sha256="2"), of=0)
    with pytest.raises(UsageProblem, match="different weights"):
        joined(tmp_path, one, two)
    assert not (tmp_path / "whole").exists()


def test_other_versions_and_options_are_named_and_incomplete_unless_accepted(part, tmp_path):
    one = part("one", case_record("a"), of=0, environment={"torch": "2.8", "OMP_NUM_THREADS": "1"},
               settings={"repeat": "2"})  # fmt: skip
    two = part("two", case_record("b"), of=0, environment={"torch": "2.9", "OMP_NUM_THREADS": "4"},
               settings={"repeat": "3"}, device="npu:1")  # fmt: skip
    merged = joined(tmp_path, one, two)
    assert merged.code is ExitCode.INCOMPLETE
    assert merged.differences == (
        ("device", "cpu", "npu", "two"),
        ("torch", "2.8", "2.9", "two"),
        ("option repeat", "2", "3", "two"),
    )
    assert joined(tmp_path, one, two, allow_differences=True).code is ExitCode.OK


def test_shards_of_different_plans_are_said_so(part, tmp_path):
    one = part("one", case_record("a"), case_record("b"))
    two = part("two", case_record("c"), case_record("d"), number=2, plan="q")
    (note,) = joined(tmp_path, one, two).notes
    assert "divided by different plans" in note


def test_a_broken_test_in_a_part_fails_the_whole(part, tmp_path):
    assert joined(tmp_path, part("one", case_record("a"), of=0, end=1)).code is ExitCode.FAILED


def test_a_part_given_twice_and_a_file_that_is_no_run(part, tmp_path):
    one = part("one", case_record("a"))
    with pytest.raises(UsageProblem, match="given twice"):
        joined(tmp_path, one, one / "results.jsonl")
    results_file.append(tmp_path / "results.jsonl", case_record("a"))
    with pytest.raises(UsageProblem, match="lacks the line of the run"):
        joined(tmp_path, tmp_path)


def test_scripts_that_a_record_names_come_along(part, tmp_path):
    name = "reproducers/a/0001-worst.py"
    case = case_record("a", F, localization=Localization(reproducers=(name,)))
    one = part("one", case, of=0)
    (one / name).parent.mkdir(parents=True)
    (one / name).write_text("pass")
    joined(tmp_path, one)
    assert (tmp_path / "whole" / name).read_text() == "pass"


def test_the_command_prints_the_whole_and_ends_with_its_code(part, tmp_path, capsys):
    one = part("one", case_record("a"), case_record("b", F), environment={"torch": "2.8"})
    two = part("two", case_record("c"), number=2, environment={"torch": "2.9"})
    code = main(["merge", str(one), str(two), "--output", str(tmp_path / "whole")])
    assert code == 1
    text = capsys.readouterr().out
    assert "4 cases: 1 fail_accuracy, 2 pass, 1 missing" in text
    assert "--allow-differences" in text
    assert "| torch " in text
    assert main(["merge", str(tmp_path / "none"), "--output", str(tmp_path)]) == 4
