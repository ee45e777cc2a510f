"""The public face gives what its docstring promises, and brings no torch in."""

import subprocess
import sys

from harness import api
from harness.records import results_file
from harness.system.files import ROOT
from tests.makers.records import case_record, run_record


def test_a_run_is_read_and_compared_by_the_public_face(tmp_path):
    case = case_record("a")
    results_file.append(tmp_path / "results.jsonl", run_record(case.case_id))
    results_file.append(tmp_path / "results.jsonl", case)
    run = api.read_run(tmp_path)
    assert [case.status for case in run.cases] == [api.Status.PASS]
    found = api.compare_runs(run, run)
    assert [change.change.value for change in found.cases] == ["identical"]
    assert found.code is api.ExitCode.OK


def test_every_name_is_there_and_none_brings_torch():
    code = (
        "import sys; from harness import api\n"
        "print([name for name in api.__all__ if not hasattr(api, name)], 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[] False\n"
