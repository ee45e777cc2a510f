"""The documented protocol: the same model and images on CPU and device.

The verdict holds the documented gate (error rate < 1 %, Top-1 agreement) and what the gate alone
would let through: see README, "What the report means".  Where there is an expected row, a case
must give what its row says, for the better as for the worse: see README, "Gating an upgrade".
"""

import pytest

from harness.records.expectation import Outcome
from harness.records.lines import CaseRecord
from harness.report.tables.cells import label
from harness.report.tables.per_case import conclusion
from harness.system.status import Status


def test_accuracy(case_record: CaseRecord) -> None:
    expected = case_record.expected
    if case_record.contested:
        pytest.fail(f"{conclusion(case_record)} {case_record.notes[0]}", pytrace=False)
    if expected is not None:
        sentence = label(case_record, expected.sentence)
        if expected.outcome is Outcome.UPDATED:
            pytest.skip(sentence)
        if expected.outcome is Outcome.KNOWN:
            pytest.xfail(sentence)
        if expected.outcome is not Outcome.SAME:
            pytest.fail(sentence, pytrace=False)
    if case_record.status is not Status.PASS:
        pytest.fail(conclusion(case_record), pytrace=False)
    if case_record.gate is not None:
        assert case_record.gate.error_rate_percent < 1.0
