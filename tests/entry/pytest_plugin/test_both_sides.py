"""The fixtures of both sides, and the lines of cases/test_accuracy.py, without running a model."""

import dataclasses
import importlib.util

import numpy as np
import pytest
from safetensors.numpy import save_file

from harness.devices.device import Counters
from harness.entry.pytest_plugin.both_sides import Comparison, Images, Outputs, SideModel
from harness.execution.legs import LegResult
from harness.judgement import output_comparison
from harness.judgement.output_comparison import OutputComparison
from harness.records.expectation import Expectation, Outcome
from harness.system.files import CASES
from harness.system.status import CaseProblem, Stage, Status, UsageProblem
from tests.makers.evidence import LABELS, logits
from tests.makers.records import case_record, leg

IMAGES = Images(LABELS, (6, 3, 4, 4), None)
OTHERS = np.zeros((2, 3, 4, 4), np.float32)
ARRAY = logits().astype(np.float32)
NEAR = ARRAY * np.float32(1.01)


def result(outputs=ARRAY, sha256="0", name="output"):
    record = leg("cpu").model_copy(update={"weights_sha256": sha256})
    return LegResult({"output": outputs}, name, (), record, "", Counters())


def side(given=None, forward=lambda images: pytest.fail("it ran"), *, record=None):
    given = given or result()
    record = record or case_record(reference=given.record)
    return SideModel(record, IMAGES, record.reference, given, forward)


def test_images_are_an_array_with_names(tmp_path):
    array = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)
    save_file({"images": array}, tmp_path / "i.safetensors")
    images = Images(("cat",), array.shape, tmp_path / "i.safetensors")
    assert len(images) == 1 and images.labels == ("cat",)
    np.testing.assert_array_equal(np.asarray(images), array)
    assert np.asarray(images, np.float64).dtype == np.float64
    with pytest.raises(UsageProblem, match=r"ran on another host \(--ray\)"):
        np.asarray(IMAGES)


def test_the_images_of_the_case_are_not_run_again():
    found = side()(IMAGES)
    np.testing.assert_array_equal(found.logits, ARRAY)
    assert found.labels == LABELS and side().weights_sha256 == "0"


def test_other_images_run_in_the_process_of_the_side():
    asked = []

    def forward(images):
        asked.append(images)
        return dataclasses.replace(
            result(ARRAY[:2]), outputs={"output": ARRAY[:2], "forward_features": ARRAY[:2]}
        )

    found = side(forward=forward)(OTHERS.astype(np.float64).tolist())
    assert asked[0].dtype == np.float32 and asked[0].shape == OTHERS.shape
    assert list(found.arrays) == ["output"] and found.labels == ("image 0", "image 1")


@pytest.mark.parametrize("shape", [(3, 4, 4), (0, 3, 4, 4), (2, 3, 5, 4), (2, 1, 4, 4)])
def test_images_of_another_form_are_refused_in_a_sentence(shape):
    with pytest.raises(UsageProblem, match=r"none of this case: give \[N, 3, 4, 4\]\."):
        side()(np.zeros(shape))


def test_a_side_that_loaded_other_weights_for_other_images_fails_the_test():
    with pytest.raises(pytest.fail.Exception, match="other weights than in its case"):
        side(forward=lambda images: result(ARRAY[:2], "1"))(OTHERS)


def test_what_goes_wrong_with_other_images_fails_the_test_in_a_sentence():
    def forward(images):
        raise CaseProblem(Status.ERROR_CRASH, Stage.FORWARD, "It died.")

    with pytest.raises(pytest.fail.Exception, match=r"^error_crash: It died\.$"):
        side(forward=forward)(OTHERS)


@pytest.mark.parametrize("ask", [lambda model: model(IMAGES), lambda model: model.weights_sha256])
def test_a_side_that_came_to_no_outputs_fails_the_test_as_its_case_failed(ask):
    record = case_record(status=Status.FAIL_LOAD, reason="Key a is missing.")
    with pytest.raises(pytest.fail.Exception, match=r"fail_load: Key a is missing\."):
        ask(SideModel(record, IMAGES, None, None, None))


def test_of_a_case_on_another_host_the_record_alone_is_here():
    recorded = OutputComparison(0.5, 0.1)
    model = SideModel(case_record(), IMAGES, leg("npu"), None, None)
    assert model.weights_sha256 == "0"
    assert Comparison(recorded)(model(IMAGES), model(IMAGES)) == recorded
    for ask in (lambda: model(OTHERS), lambda: model(IMAGES).logits, lambda: model(IMAGES).arrays):
        with pytest.raises(UsageProblem, match=r"ran on another host \(--ray\)"):
            ask()


@pytest.fixture(scope="module")
def the_test():
    spec = importlib.util.spec_from_file_location("accuracy_case", CASES / "test_accuracy.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.test_accuracy


def recorded(name="output", array=NEAR):
    sides = {"output": ARRAY}, {"output": array}
    return output_comparison.compare(*sides, name, LABELS, emulated=False)


def lines(the_test, candidate=None, numbers=None, **changes):
    """Run the test of a case that passed, with these outputs of the device."""
    candidate = candidate or result(NEAR)
    record = case_record(**{"reference": result().record, "candidate": candidate.record, **changes})
    reference = result(name=candidate.logits)
    models = (
        SideModel(record, IMAGES, one.record, one if candidate.outputs else None, None)
        for one in (reference, candidate)
    )
    the_test(record, *models, IMAGES, Comparison(numbers or recorded(candidate.logits)))


def test_a_case_that_passed_passes(the_test):
    lines(the_test)
    lines(the_test, result(NEAR, name=None))


def flipped():
    """The outputs with the two classes exchanged that lie closest, and the image."""
    array = ARRAY.copy()
    order = array.argsort(axis=1)
    margins = [row[at[-1]] - row[at[-2]] for row, at in zip(array, order, strict=True)]
    image = int(np.argmin(margins))
    first, second = order[image, -2:]
    array[image, [first, second]] = array[image, [second, first]]
    return array, image


FLIPPED, FLIPPED_IMAGE = flipped()
ELSEWHERE = dataclasses.replace(result(), outputs={})
NO_NUMBER = np.full_like(ARRAY, np.nan)


@pytest.mark.parametrize(
    ("said", "candidate", "changes"),
    [
        ("fail_accuracy: It is wrong", None, {"status": Status.FAIL_ACCURACY,
                                              "reason": "It is wrong."}),
        ("The two sides loaded different parameters", result(sha256="1"), {}),
        ("The cosine similarity is not finite!", result(NO_NUMBER), {}),
        ("The mean absolute error is not finite!", ELSEWHERE,
         {"numbers": dataclasses.replace(recorded(), mae=np.nan)}),
        ("The error rate is not below 1 %!", result(ARRAY[::-1].copy()), {}),
        ("Top-1 differs!", result(FLIPPED), {}),
        ("The record has cosine 0.5 and MAE ", None,
         {"numbers": dataclasses.replace(recorded(), cosine=0.5)}),
        ("The record has cosine 0.", None,
         {"numbers": dataclasses.replace(recorded(), mae=1.0)}),
        ("The record has cosine 1 and MAE 0!", result(NEAR, name=None),
         {"numbers": OutputComparison(1.0, 0.0)}),
    ],
)  # fmt: skip
def test_each_line_can_fail_and_says_so(the_test, said, candidate, changes):
    with (
        np.errstate(invalid="ignore"),
        pytest.raises((AssertionError, pytest.fail.Exception)) as failed,
    ):
        lines(the_test, candidate, **changes)
    assert str(failed.value).startswith(said)
    if said.startswith("Top-1"):
        text = f"Mismatched Top-1: 1 / 6 (16.7%)\nTop-1 at image {FLIPPED_IMAGE} "
        assert text in str(failed.value)


def test_a_flip_that_the_verdict_explains_passes(the_test):
    lines(the_test, result(FLIPPED), numbers=recorded(array=FLIPPED))


@pytest.mark.parametrize(
    ("outcome", "ends"),
    [
        (Outcome.UPDATED, pytest.skip.Exception),
        (Outcome.KNOWN, pytest.xfail.Exception),
        (Outcome.IMPROVED, pytest.fail.Exception),
        (Outcome.SAME, None),
    ],
)
def test_an_expected_row_says_how_the_test_ends(the_test, outcome, ends):
    row = Expectation(outcome=outcome, sentence="As the row says.")
    if ends is None:
        return lines(the_test, expected=row)
    with pytest.raises(ends, match=r"As the row says\."):
        lines(the_test, status=Status.PASS, expected=row)


def test_outputs_without_a_classifier_have_no_logits():
    found = Outputs(LABELS, result(name=None))
    assert found.logits is None and list(found.arrays) == ["output"]
