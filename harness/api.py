"""The one public face for code of users; what is not named here may change at any time.

    from harness import api

    api.assert_same_on("npu", module, inputs)      # or judge(...), to look at what came of it
    run = api.read_run("reports")
    for case in run.cases:
        print(case.case_id, case.status, case.budget_ratio)

Import it before torch, as every entry of the harness.  docs/library.md has examples.
"""

from harness.cases.case import Case, InputSource, ModelSource
from harness.cases.precision_plans import apply_plan
from harness.cases.samples import Arguments
from harness.entry.inference import TimmClassifier
from harness.entry.judgement import Judgement, assert_same_on, judge
from harness.records.lines import CaseRecord
from harness.records.results_file import Run, read_run
from harness.system.status import CaseProblem, ExitCode, Status, UsageProblem
from harness.upgrade.compare import compare as compare_runs

__all__ = [
    "Arguments",
    "Case",
    "CaseProblem",
    "CaseRecord",
    "ExitCode",
    "InputSource",
    "Judgement",
    "ModelSource",
    "Run",
    "Status",
    "TimmClassifier",
    "UsageProblem",
    "apply_plan",
    "assert_same_on",
    "compare_runs",
    "judge",
    "read_run",
]
