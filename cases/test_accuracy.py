"""The documented protocol: the same model and images on CPU and device.

The verdict holds the documented gate (error rate < 1 %, Top-1 agreement) and what the gate alone
would let through: see README, "What the report means".  Where there is an expected row, a case
must give what its row says, for the better as for the worse: see README, "Gating an upgrade".
"""

import math

import pytest

from harness.entry.pytest_plugin.both_sides import Comparison, Images, SideModel
from harness.records.expectation import Outcome
from harness.records.lines import CaseRecord
from harness.report.tables.cells import label
from harness.report.tables.per_case import conclusion
from harness.system.status import Status

_ROUNDING = 1e-12  # of float64 sums


def test_accuracy(
    case_record: CaseRecord,
    cpu_model: SideModel,
    npu_model: SideModel,
    images: Images,
    comparison: Comparison,
) -> None:
    """Each case: its verdict, then the documented numbers of both sides' outputs."""
    beside_its_row(case_record)
    if case_record.status is not Status.PASS:
        pytest.fail(conclusion(case_record), pytrace=False)

    assert npu_model.weights_sha256 == cpu_model.weights_sha256, label(
        case_record, "The two sides loaded different parameters and buffers!"
    )
    found, recorded = comparison(cpu_model(images), npu_model(images)), comparison.recorded
    assert math.isfinite(found.cosine), found.message("The cosine similarity is not finite!")
    # No limit of it is documented: what the verdict allows is measured, on this model and images.
    assert math.isfinite(found.mae), found.message("The mean absolute error is not finite!")
    if found.error_rate_percent is not None:  # without a classifier there is none, and no Top-1
        assert found.error_rate_percent < 1.0, found.message("The error rate is not below 1 %!")
        # Of two classes that lie closer than the allowed error either may win.  That is for the
        # verdict to say: it passed, so each flip in its record is such a one, and a note tells.
        explained = {row.image for row in recorded.flips}
        assert {row.image for row in found.flips} <= explained, found.message("Top-1 differs!")
    assert (found.cosine, found.mae) == pytest.approx(
        (recorded.cosine, recorded.mae), rel=_ROUNDING
    ), found.message(f"The record has cosine {recorded.cosine:.9g} and MAE {recorded.mae:.6g}!")


def beside_its_row(record: CaseRecord) -> None:
    """End the test where the case's expected row, or another try of it, says how."""
    if record.contested:
        pytest.fail(f"{conclusion(record)} {record.notes[0]}", pytrace=False)
    expected = record.expected
    if expected is None or expected.outcome is Outcome.SAME:
        return
    sentence = label(record, expected.sentence)
    if expected.outcome is Outcome.UPDATED:
        pytest.skip(sentence)
    if expected.outcome is Outcome.KNOWN:
        pytest.xfail(sentence)
    pytest.fail(sentence, pytrace=False)
