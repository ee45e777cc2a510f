"""One answer from all that the folders of two runs hold."""

import dataclasses
import json

import pytest

from harness.records import fingerprint as fingerprints
from harness.system.status import ExitCode, Status, UsageProblem
from harness.upgrade import decision, folder
from harness.upgrade.expected import Update
from harness.upgrade.operators import Rows
from harness.upgrade.precheck.check import Checked, Model
from tests.makers.fingerprints import fingerprint
from tests.makers.operators import RELU, softmax
from tests.makers.two_runs import run, sides
from tests.makers.upgrades import answered, qualified

BAD = [softmax(197), softmax(257)]


@pytest.fixture
def old(tmp_path):
    return qualified(tmp_path / "old")


def decided(old, new, rows=None, before=None, after=None):
    """`before`, `after`: cases of the folders."""
    sides_of = ((old, before), (new, after))
    read = (dataclasses.replace(folder.read(path), cases=cases) for path, cases in sides_of)
    return decision.decide(*read, rows)


def part(found, name):
    (one,) = [part for part in found.parts if part.name.startswith(name)]
    return one


def test_what_neither_folder_holds_decides_nothing_and_is_named(old, tmp_path):
    found = decided(old, qualified(tmp_path / "new"))
    assert found.code == ExitCode.OK and found.line.startswith("READY")
    absent = {one.name for one in found.parts if one.code is None}
    assert absent == {"cases", "fingerprint", "support", "precheck"}
    assert "nothing is decided by it" in part(found, "support").said


def test_what_only_the_old_folder_holds_makes_the_answer_incomplete(old, tmp_path):
    answered(old, a="accepted")
    found = decided(old, qualified(tmp_path / "new"), before=run(sides()))
    assert found.code == ExitCode.INCOMPLETE
    for name in ("support", "cases"):
        assert part(found, name).code == ExitCode.INCOMPLETE
        assert "old folder only" in part(found, name).said
    (tmp_path / "bare").mkdir()
    bare = decided(old, tmp_path / "bare", after=run(sides()))
    assert part(bare, "operators").code == ExitCode.INCOMPLETE


def test_failing_calls_fail_and_changed_ones_are_listed(old, tmp_path):
    found = decided(old, qualified(tmp_path / "new", bad=BAD, changed=[softmax(49)]))
    assert found.code == ExitCode.FAILED
    (calls,) = found.operators
    (group,) = calls.failing
    assert group.cause == "all 2 _softmax whose last axis is 197 to 257"
    assert len(calls.changed) == 3
    assert "2 fail in 1 group" in part(found, "operators").said
    assert {m.name: m.holds for m in calls.certificate.models} == {"a": False, "b": True}


def test_changed_bits_that_pass_are_no_failure(old, tmp_path):
    found = decided(old, qualified(tmp_path / "new", changed=[RELU]))
    assert found.code == ExitCode.OK
    assert "1 changed by bits" in part(found, "operators").said


def test_bits_of_another_chip_are_not_compared_and_that_is_said(tmp_path):
    old = qualified(tmp_path / "old", device="Ascend310P3")
    found = decided(old, qualified(tmp_path / "new", changed=[RELU]))
    assert not found.operators[0].changed
    assert "another device (Ascend310P3, here Ascend910B3)" in part(found, "operators").said


def test_a_call_that_was_not_run_is_missing(old, tmp_path):
    found = decided(old, qualified(tmp_path / "new", missing=[RELU]))
    assert found.code == ExitCode.INCOMPLETE
    assert "2 models with calls that were not run" in part(found, "operators").said


def test_trouble_of_the_infrastructure_is_no_verdict(old, tmp_path):
    new = qualified(tmp_path / "new", bad=[RELU], status=Status.ERROR_CRASH)
    assert decided(old, new).code == ExitCode.INFRASTRUCTURE


def test_rows_are_of_calls_that_fail_alone(old, tmp_path):
    directory = tmp_path / "expected"
    new = qualified(tmp_path / "new", bad=BAD)
    with pytest.raises(UsageProblem, match="--expected-reason"):
        decided(old, new, Rows(directory, Update()))
    found = decided(old, new, Rows(directory, Update("known", "https://example.org/1")))
    assert found.code == ExitCode.OK
    text = (directory / "npu" / "operators-float32-strict.toml").read_text()
    assert text.count("fail_accuracy") == 2 and '"pass"' not in text
    again = decided(old, new, Rows(directory))
    assert again.code == ExitCode.OK and "2 fail as expected" in part(again, "operators").said
    other = qualified(tmp_path / "nan", bad=BAD, status=Status.FAIL_NAN)
    assert decided(old, other, Rows(directory)).code == ExitCode.FAILED
    better = decided(old, qualified(tmp_path / "better"), Rows(directory))
    assert better.code == ExitCode.IMPROVED and len(better.operators[0].better) == 2
    decided(old, qualified(tmp_path / "better"), Rows(directory, Update()))
    text = (directory / "npu" / "operators-float32-strict.toml").read_text()
    assert "fail_accuracy" not in text


def test_a_row_that_expects_a_pass_is_bad_input(old, tmp_path):
    new = qualified(tmp_path / "new", bad=BAD)
    directory = tmp_path / "expected"
    decided(old, new, Rows(directory, Update("known", "https://example.org/1")))
    path = directory / "npu" / "operators-float32-strict.toml"
    path.write_text(path.read_text().replace("fail_accuracy", "pass"))
    with pytest.raises(UsageProblem, match="is expected to pass, as every call is"):
        decided(old, new, Rows(directory))


@pytest.mark.parametrize(
    ("before", "after", "code"),
    [
        ("accepted", "accepted", ExitCode.OK),
        ("accepted", "unknown", ExitCode.INCOMPLETE),
        ("accepted", "refused", ExitCode.FAILED),
        ("refused", "refused", ExitCode.OK),
        ("refused", "accepted", ExitCode.OK),
    ],
)
def test_support_is_judged_by_what_got_worse(old, tmp_path, before, after, code):
    answered(old, a=before)
    found = decided(old, answered(qualified(tmp_path / "new"), a=after))
    assert part(found, "support").code == code
    if before == after == "refused":
        assert "as before, not accepted: a in float32 (refused)" in part(found, "support").said


def test_a_model_that_support_is_not_asked_of_any_more_is_missing(old, tmp_path):
    answered(old, a="accepted", b="accepted")
    found = decided(old, answered(qualified(tmp_path / "new"), a="accepted"))
    assert part(found, "support").code == ExitCode.INCOMPLETE
    assert "not asked any more: b in float32" in part(found, "support").said


def test_a_pre_check_of_the_new_version_counts(old, tmp_path):
    new = qualified(tmp_path / "new")
    found = [Checked("2.14.0", models={"m": Model(problem="it raised")})]
    (new / "precheck.json").write_text(json.dumps([dataclasses.asdict(one) for one in found]))
    assert part(decided(old, new), "precheck").code == ExitCode.FAILED
    assert "m does not run: it raised" in part(decided(old, new), "precheck").said


def test_another_form_of_arithmetic_fails_and_without_an_old_one_nothing_is_assumed(old, tmp_path):
    new = qualified(tmp_path / "new")
    fingerprints.write(fingerprint(form="erf"), new / "fingerprint.json")
    assert part(decided(old, new), "fingerprint").code == ExitCode.INCOMPLETE
    fingerprints.write(fingerprint(form="tanh"), old / "fingerprint.json")
    assert part(decided(old, new), "fingerprint").code == ExitCode.FAILED


def test_cases_are_compared_and_a_failing_one_needs_none_beside_it(old, tmp_path):
    new, cases = qualified(tmp_path / "new"), run(sides(2.3, status=Status.FAIL_ACCURACY))
    alone = part(decided(old, new, after=cases), "cases")
    assert alone.code == ExitCode.FAILED and "1 do not pass" in alone.said
    found = decided(old, new, before=run(sides()), after=cases)
    assert part(found, "cases").code == ExitCode.FAILED and found.cases is not None


def test_a_model_that_fails_with_all_calls_qualified_is_named(old, tmp_path):
    case = sides(2.3, status=Status.FAIL_ACCURACY)
    model = dataclasses.replace(case.case.model, ref="b")
    case = case.model_copy(
        update={"case": dataclasses.replace(case.case, model=model, numerics="strict")}
    )
    case = case.model_copy(update={"case_id": case.case.id})
    new = qualified(tmp_path / "new", bad=BAD)
    assert decided(old, new, after=run(case)).contradicted == (f"{case.case_id}: fail_accuracy",)


def test_bad_input_is_one_sentence(old, tmp_path):
    with pytest.raises(UsageProblem, match="is no folder"):
        folder.read(tmp_path / "none")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UsageProblem, match="holds nothing to decide by"):
        decided(old, empty)
    (old / "support.json").write_text("[{}]")
    with pytest.raises(UsageProblem, match="is not what `python -m harness support --json` prints"):
        folder.read(old)
    (old / "support.json").unlink()
    qualified(old / "again")
    with pytest.raises(UsageProblem, match="two qualifications in float32"):
        folder.read(old)


def test_formats_lie_beside_each_other(old, tmp_path):
    new = qualified(tmp_path / "new")
    qualified(new / "half", bad=BAD, dtype="float16")
    found = decided(old, new)
    assert [one.code for one in found.operators] == [ExitCode.OK, ExitCode.FAILED]
    assert "old folder has none" in part(found, "operators, float16").said
