import pytest

from harness.report import markdown, text
from harness.report.tables import two_runs as report
from harness.system.status import ExitCode, Finding, Stage, Status, UsageProblem
from harness.upgrade import compare, conditions
from harness.upgrade.compare import Change
from tests.makers.fingerprints import fingerprint
from tests.makers.records import case_record
from tests.makers.two_runs import run, sides


def only(old, new, *terms: str):
    fail_on = conditions.parse(", ".join(terms)) if terms else ()
    found = compare.compare(run(old), run(new), fail_on)
    return found.cases[0], found


@pytest.mark.parametrize(
    ("old", "new", "change", "code"),
    [
        (sides(), sides(), Change.IDENTICAL, 0),
        (sides(), sides(1.02, images=(0.9, 1.1, 1.02, 0.95, 1.0, 1.05)), Change.NOISE, 0),
        (sides(), sides(1.2, images=(1.2, 1.19, 1.2, 1.21, 1.2, 1.2)), Change.SYSTEMATIC, 0),
        (sides(), sides(2.3), Change.WORSE, 1),
        (sides(), sides(float("nan")), Change.WORSE, 1),
        (sides(2.3), sides(), Change.BETTER, 11),
        (sides(), sides(1.0, status=Status.FAIL_NAN), Change.WORSE, 1),
        (sides(status=Status.FAIL_NAN), sides(), Change.BETTER, 11),
        (sides(status=Status.FAIL_NAN), sides(1.01, status=Status.FAIL_NAN), Change.SYSTEMATIC, 0),
        (sides(), case_record(status=Status.ERROR_CRASH), Change.ERROR, 10),
        (
            sides(),
            sides(2.3, findings=[Finding(Status.FLAKY, Stage.FORWARD, "bits differ")]),
            Change.NOISE,
            0,
        ),
    ],
)
def test_a_change_is_judged_against_its_noise(old, new, change, code):
    case, found = only(old, new)
    assert case.change is change, case.why
    assert found.code == code


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ({"weights_sha256": "a" * 64}, {"weights_sha256": "b" * 64}, "different weights"),
        ({"inputs_sha256": "a" * 64}, {"inputs_sha256": "b" * 64}, "different inputs"),
        ({"arithmetic": "float32"}, {"arithmetic": "float32 with HF32 conv"}, "another arithmetic"),
    ],
)
def test_what_is_not_the_same_thing_is_not_compared(old, new, reason):
    with pytest.raises(UsageProblem, match=reason):
        only(sides(**old), sides(**new))
    # Beside a case that can be compared the run is incomplete, never green.
    other = case_record("other")
    found = compare.compare(run(sides(**old), other), run(sides(**new), other))
    assert found.cases[0].change is Change.REFUSED
    assert found.code is ExitCode.INCOMPLETE


def test_runs_without_a_common_case_are_refused_with_their_profiles():
    strict = case_record()
    object.__setattr__(strict.case, "numerics", "strict")
    strict = strict.model_copy(update={"case_id": strict.case.id})
    with pytest.raises(UsageProblem, match="no case in common.*default.*strict"):
        compare.compare(run(case_record()), run(strict))


def test_cases_of_one_run_only():
    a, b = case_record("a"), case_record("b")
    assert compare.compare(run(a, b), run(a)).code is ExitCode.INCOMPLETE
    assert compare.compare(run(a), run(a, b)).code is ExitCode.IMPROVED
    worse = case_record("b", Status.FAIL_NAN)
    assert compare.compare(run(a), run(a, worse)).code is ExitCode.FAILED


def test_an_incomplete_new_run_is_never_green():
    a = case_record("a")
    assert compare.compare(run(a), run(a, missing=["b"])).code is ExitCode.INCOMPLETE
    assert compare.compare(run(a), run(a), ended=False).code is ExitCode.INCOMPLETE


def test_conditions_replace_the_judgement_of_numbers_and_never_that_of_statuses():
    _, found = only(sides(), sides(1.6), "budget_ratio>2x")
    assert (found.code, found.hits) == (ExitCode.OK, ())
    _, found = only(sides(), sides(1.6), "budget_ratio>1.5x")
    assert found.code is ExitCode.FAILED
    assert found.hits[0].endswith("budget_ratio>1.5x is met, budget_ratio 1 -> 1.6 (1.6x)")
    _, found = only(sides(), sides(status=Status.FAIL_NAN), "budget_ratio>2x")
    assert found.code is ExitCode.FAILED


def test_speed_counts_only_when_its_interval_shows_a_change():
    fast, slow = sides(seconds=(0.1, 0.101, 0.1)), sides(seconds=(0.2, 0.202, 0.2))
    case, found = only(fast, slow, "speed<0.9x")
    assert case.speed.value == pytest.approx(0.5, rel=0.01)
    assert found.code is ExitCode.FAILED
    noisy = sides(seconds=(0.1, 0.5))
    case, found = only(fast, noisy, "speed<0.9x")
    assert case.speed.holds_one and found.code is ExitCode.OK


def test_a_condition_that_judges_nothing_is_an_error():
    once = sides(seconds=(0.1,))
    with pytest.raises(UsageProblem, match="speed<0.9x judges nothing: .*two timed forwards"):
        only(once, once, "speed<0.9x")


def test_an_emulated_device_is_never_timed_against_a_real_one_and_labelled():
    case, found = only(sides(), sides(kind="npu-emulated"))
    assert case.speed is None
    both = only(sides(kind="npu-emulated"), sides(kind="npu-emulated"))[1]
    for comparison in (found, both):
        for shown in (text, markdown):
            page = shown.render_comparison(comparison)
            assert "EMULATED: no evidence about NPU hardware" in page
    assert "says nothing about an NPU's" in report.speed(both).title


def test_the_environment_shows_what_differs_and_nothing_else():
    old, new = sides(), sides()
    candidate = new.candidate.model_copy(update={"numerics": {"conv.allow_hf32": "True"}})
    new = new.model_copy(update={"candidate": candidate})
    found = compare.compare(
        run(old, torch="2.8", timm="1"), run(new, torch="2.13", timm="1", OMP_NUM_THREADS="1")
    )
    assert report.environment(found).rows == (
        ("torch", "2.8", "2.13"),
        ("OMP_NUM_THREADS", "not recorded", "1"),
        ("device conv.allow_hf32 (default, float32)", "not recorded", "True"),
    )


def test_two_runs_are_compared_by_the_arithmetic_that_they_recorded():
    def with_arithmetic(found):
        made = run(sides())
        return made.model_copy(update={"run": made.run.model_copy(update={"arithmetic": found})})

    old = with_arithmetic(fingerprint())
    same = compare.compare(old, with_arithmetic(fingerprint()))
    assert (same.code, same.arithmetic) == (0, ())
    # A run without one is compared by its cases alone.
    assert compare.compare(run(sides()), old).code == 0
    other = compare.compare(old, with_arithmetic(fingerprint(factors="11 bits, truncated")))
    assert other.code == 1
    assert "| strict | mm       | factors | all bits | 11 bits, truncated" in (
        text.render_comparison(other)
    )
    assert "11 bits, truncated" in markdown.render_comparison(other)
    assert "1 traits of the arithmetic differ" in report.line(other)
    order = compare.compare(old, with_arithmetic(fingerprint(order="256 pairwise")))
    assert order.code == 0 and len(order.arithmetic) == 1
