import pytest

from harness.detection.study import StudyPlan
from harness.system.status import UsageProblem


def test_unknown_names_are_usage_problems():
    with pytest.raises(UsageProblem, match="setting 'E'"):
        StudyPlan(settings=("E",))
    with pytest.raises(UsageProblem, match="format 'fp8'"):
        StudyPlan(formats=("fp8",))
