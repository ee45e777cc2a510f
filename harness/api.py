"""The one public face for code of users; what is not named here may change at any time.

    from harness import api

    run = api.read_run("reports")
    for case in run.cases:
        print(case.case_id, case.status.value, case.budget_ratio)

Import it before torch, as every entry of the harness.
"""

from harness.cases.case import Case, InputSource, ModelSource
from harness.entry.inference import TimmClassifier
from harness.records.lines import CaseRecord
from harness.records.results_file import Run, read_run
from harness.system.status import CaseProblem, ExitCode, Status, UsageProblem
from harness.upgrade.compare import compare as compare_runs

__all__ = [
    "Case",
    "CaseProblem",
    "CaseRecord",
    "ExitCode",
    "InputSource",
    "ModelSource",
    "Run",
    "Status",
    "TimmClassifier",
    "UsageProblem",
    "compare_runs",
    "read_run",
]
