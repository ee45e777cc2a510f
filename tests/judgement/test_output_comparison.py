import math

import numpy as np
import pytest

from harness.judgement import output_comparison
from harness.judgement.documented import documented_gate
from harness.judgement.output_comparison import OutputComparison
from tests.makers.evidence import LABELS, logits


def compared(reference, candidate, logits=None, labels=("a", "b")):
    sides = ({name: np.array(v) for name, v in side.items()} for side in (reference, candidate))
    return output_comparison.compare(*sides, logits, labels, emulated=False)


def test_with_a_classifier_the_numbers_are_the_documented_ones():
    cpu = logits().astype(np.float32)
    npu = cpu + np.float32(0.05) * np.random.default_rng(1).normal(size=cpu.shape)
    found = compared({"output": cpu, "other": cpu}, {"output": npu, "other": 0 * npu}, "output",
                     LABELS)  # fmt: skip
    gate = documented_gate(cpu, npu, LABELS)
    assert found == OutputComparison(gate.mean_cosine, gate.mae, gate)
    assert found.error_rate_percent == gate.error_rate_percent > 0


def test_without_a_classifier_the_worst_output_gives_cosine_and_mae():
    one, other = [[1.0, 0.0], [0.0, 2.0]], [[3.0, 4.0], [0.0, 0.0]]
    numbers = [[1, 2], [3, 4]]
    found = compared(
        {"output[0]": one, "output[1]": other, "output[2]": numbers},
        {"output[0]": [[1.0, 0.0], [0.0, 6.0]], "output[1]": [[4.0, 3.0], [0.0, 0.0]],
         "output[2]": [[9, 9], [9, 9]]},
    )  # fmt: skip
    # (3 * 4 + 4 * 3) / (5 * 5); two rows of zeros are equal; whole numbers are not rounded.
    assert found.cosine == pytest.approx(0.96) and found.mae == 1.0
    assert (found.gate, found.error_rate_percent, found.flips) == (None, None, ())
    assert "No classifier: there is no Top-1, and no error rate." in found.message("Wrong!")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_no_number_is_lost_among_others(bad):
    good = [[1.0, 2.0], [3.0, 4.0]]
    found = compared(
        {"output[0]": good, "output[1]": good},
        {"output[0]": [[1.0, bad], [3.0, 4.0]], "output[1]": good},
    )
    assert math.isnan(found.cosine) and not math.isfinite(found.mae)
    with np.errstate(invalid="ignore"):
        found = compared({"output": good}, {"output": [[1.0, bad], [3.0, 4.0]]}, "output")
    assert math.isnan(found.cosine) and math.isnan(found.error_rate_percent)
    assert "Smallest cosine similarity: nan at image 0 (a)" in found.message("Wrong!")


def test_nothing_to_compare_is_no_number():
    found = compared({"output": [[1, 2], [3, 4]]}, {"output": [[1, 2], [3, 4]]})
    assert math.isnan(found.cosine) and math.isnan(found.mae)


def test_a_message_says_what_failed_where_and_how_far():
    # Two classes with probabilities 3/4 and 1/4, once the other way about on the device.
    likely = math.log(3)
    found = output_comparison.compare(
        {"output": np.array([[likely, 0], [0, likely]])},
        {"output": np.array([[likely, 0], [likely, 0]])},
        "output", ("cat", "dog"), emulated=True,
    )  # fmt: skip
    assert found.message("The error rate is not below 1 %!").splitlines() == [
        "The error rate is not below 1 %! [EMULATED]",
        "",
        "Mismatched Top-1: 1 / 2 (50.0%)",
        "Top-1 at image 1 (dog): 1 on the CPU, 0 on the device",
        "Greatest absolute difference: 1.09861 at image 1 (dog) (logits)",
        "Smallest cosine similarity: 0.6 at image 1 (dog) (softmax probabilities)",
        "Mean cosine similarity: 0.8",
        "Mean absolute error: 0.25",
        "Error rate: 20 %",
    ]
