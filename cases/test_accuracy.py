"""The documented protocol: the same model and images on CPU and device.

The verdict holds the documented gate (error rate < 1 %, Top-1 agreement) and what the gate alone
would let through: see README, "What the report means".
"""

import pytest

from harness.records import CaseRecord
from harness.report.tables import conclusion
from harness.status import Status


def test_accuracy(case_record: CaseRecord) -> None:
    if case_record.status is not Status.PASS:
        pytest.fail(conclusion(case_record), pytrace=False)
    if case_record.gate is not None:
        assert case_record.gate.error_rate_percent < 1.0
