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
    assert found.cosine == pytest.approx(recorded.cosine, rel=_ROUNDING), found.message(
        f"The cosine similarity is not the {recorded.cosine:.9g} of the record!"
    )
    # Nothing is documented that it should stay below: the verdict's budgets are what limits it.
    assert math.isfinite(found.mae), found.message("The mean absolute error is not finite!")
    assert found.mae == pytest.approx(recorded.mae, rel=_ROUNDING), found.message(
        f"The mean absolute error is not the {recorded.mae:.6g} of the record!"
    )
    if found.error_rate_percent is None:
        return  # no classifier: there are no classes, and so no error rate and no Top-1

    assert found.error_rate_percent < 1.0, found.message("The error rate is not below 1 %!")
    # Of two classes that lie closer than the allowed error either may win.  That is the verdict's
    # to say: it passed, so each flip in its record is such a one, and a note tells of it.
    explained = {row.image for row in recorded.flips}
    assert {row.image for row in found.flips} <= explained, found.message("Top-1 differs!")


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
