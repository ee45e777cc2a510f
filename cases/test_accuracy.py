"""The documented protocol: the same model and images on CPU and device."""

import pytest

from harness.records import CaseRecord
from harness.report.tables import conclusion
from harness.status import Status
from harness.verdict import ERROR_RATE_LIMIT_PERCENT


def test_accuracy(case_record: CaseRecord) -> None:
    if case_record.gate is not None:
        assert case_record.gate.error_rate_percent < ERROR_RATE_LIMIT_PERCENT, conclusion(
            case_record
        )
        assert case_record.gate.top1_matches == case_record.gate.images, conclusion(case_record)
    # The gate alone passes broken devices: the verdict also asks whether it could have failed.
    if case_record.status is not Status.PASS:
        pytest.fail(conclusion(case_record), pytrace=False)
