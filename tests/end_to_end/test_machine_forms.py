import json
import xml.etree.ElementTree as ElementTree

from harness.entry.commands.main import main
from harness.report import junit
from harness.runs.session import exit_code
from tests.makers.records import rows_of
from tests.makers.schema import VALIDATOR


def test_a_run_from_the_shell_gives_every_form(copy_of, harness_run, tmp_path):
    """One real run of a model with an awkward name: its records, JUnit, CSV and port report."""
    model = copy_of("模型`a|b` <i>")
    report = tmp_path / "junit.xml"
    cases = f"[[case]]\ndirectory = '{model}'\ninputs = ['synthetic']\nnumerics = ['default']\n"
    finished = harness_run("--device", "cpu", f"--junitxml={report}", cases=cases)
    assert finished.code == 0, finished.text
    run = finished.run
    (case,) = run.cases
    assert run.missing == [] and exit_code(run) == 0
    for line in (finished.results / "results.jsonl").read_text(encoding="utf-8").splitlines():
        VALIDATOR.validate(json.loads(line))
    (test,) = ElementTree.parse(report).iter("testcase")
    found = {item.get("name"): item.get("value") for item in test.iter("property")}
    assert found == dict(junit.properties(case))
    assert found["case"] == case.case_id and "模型" in case.case_id
    assert float(found["error_rate_percent"]) == case.gate.error_rate_percent
    (row,) = rows_of(run)
    assert row["model"] == "模型`a|b` <i>" and row["status"] == "pass"
    assert main(["report", "--lang", "zh", str(finished.results)]) == 0
    (document,) = (finished.results / "port").glob("*/README_zh.md")
    assert "草稿" in document.read_text(encoding="utf-8")  # the CPU is no NPU
